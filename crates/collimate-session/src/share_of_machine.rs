//! What one of several ranks has of its machine: the ranks there share cores and memory.

use std::fs;

use collimate_collective::{CollectiveError, Ranks};
use collimate_machine::cores;
use collimate_recipe::{MemoryBudget, Recipe};

use crate::options::SessionOptions;

/// Backends whose devices are a rank's own.
const DEVICES_OF_THEIR_OWN: [&str; 2] = ["cuda", "wgpu"];

/// The recipe as one of several ranks computes it: with its share of threads and memory, and on a device of its own.
///
/// # Errors
/// A rank has ended.
pub fn share_of_machine(recipe: &Recipe, ranks: &Ranks<'_>) -> Result<Recipe, CollectiveError> {
    let (mut own, world) = (recipe.clone(), ranks.world());
    if ranks.size() == 1 {
        return Ok(own);
    }
    // A launcher that binds ranks to cores has divided these already.
    let mine = processors();
    let all = ranks.share(Ok::<_, CollectiveError>(mine.clone().into_bytes()))?;
    let sharing = all.iter().filter(|other| **other == mine.as_bytes()).count();
    own.num_threads = match recipe.num_threads {
        0 => cores() / sharing.max(1),
        threads => threads / world.local_size(),
    }
    .max(1);
    if recipe.backend.as_deref().is_some_and(|name| DEVICES_OF_THEIR_OWN.contains(&name)) {
        own.device += world.local_rank();
    } else {
        own.memory_budget = divided(recipe, world.local_size());
    }
    Ok(own)
}

/// The part of the memory budget that one of so many ranks on a machine has. What is wrong with the backend is reported later.
fn divided(recipe: &Recipe, ranks: usize) -> MemoryBudget {
    let memory = SessionOptions::of_recipe(recipe, "", None).device_memory().ok().flatten();
    let bytes = recipe.memory_budget.bytes(memory.map(|memory| memory.bytes));
    bytes.map_or(recipe.memory_budget, |bytes| MemoryBudget::Bytes(bytes / ranks as u64))
}

/// The machine and which of its processors this process may use, as Linux has them.
fn processors() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed = status.lines().find(|line| line.starts_with("Cpus_allowed_list:")).unwrap_or_default();
    format!("{boot}{allowed}")
}

#[cfg(test)]
mod tests {
    use collimate_collective::{StopFlag, Threads};

    use super::*;

    fn shared(recipe: &Recipe, size: usize) -> Vec<Recipe> {
        let all = Threads::run(size, |world| {
            let (asked, agreed) = (StopFlag::default(), StopFlag::default());
            share_of_machine(recipe, &Ranks::among(world, &asked, &agreed)).expect("a recipe")
        });
        all.into_iter().map(|recipe| recipe.expect("no panic")).collect()
    }

    #[test]
    fn ranks_of_one_machine_divide_its_threads_and_memory() {
        let given = Recipe { num_threads: 9, memory_budget: MemoryBudget::Bytes(4 << 30), ..Recipe::default() };
        let own = Recipe { num_threads: 3, memory_budget: MemoryBudget::Bytes((4 << 30) / 3), ..given.clone() };
        assert_eq!(shared(&given, 3), vec![own; 3]);
        let few = shared(&Recipe { num_threads: 2, ..Recipe::default() }, 4);
        assert!(few.iter().all(|own| own.num_threads == 1));
        let automatic = shared(&Recipe::default(), 2);
        assert!(automatic.iter().all(|own| own.num_threads == (cores() / 2).max(1)));
        let half = |recipe: &Recipe| divided(recipe, 2);
        assert!(automatic.iter().all(|own| own.memory_budget == half(&Recipe::default())));
    }

    #[test]
    fn each_rank_has_a_device_of_its_own_and_all_of_its_memory() {
        let given = Recipe { backend: Some("cuda".to_owned()), device: 1, ..Recipe::default() };
        let devices: Vec<_> = shared(&given, 3).iter().map(|own| (own.device, own.memory_budget)).collect();
        assert_eq!(devices, [1, 2, 3].map(|device| (device, MemoryBudget::Auto)));
    }
}
