//! Prompts that are held out.

use std::fs;

use collimate_data::{Prompt, PromptGroup};
use collimate_store::{Duplicates, MixOptions, Part};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::mixing::{groups, of_part, prompts, rows, select};

/// Texts of a thousand groups with few prompts, drawn from a file larger than what the table keeps in memory.
#[test]
fn large_tables_give_what_small_ones_do() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("large.jsonl");
    let count = 120_000;
    let row = |i: usize| {
        let (prompt, answer) = (i % 50_000, i % 100_000);
        format!(
            "{{\"prompt\": \"{prompt}\", \"responses\": [{{\"content\": \"{answer}\", \"reward\": 1}}, {{\"content\": \"b\", \
             \"reward\": 0}}]}}\n"
        )
    };
    fs::write(&path, (0..count).map(row).collect::<String>()).unwrap();
    let mut selection = select(&[(&path, 1.0)], &MixOptions::default());
    let duplicates = selection.duplicates().unwrap();
    assert_eq!(duplicates, Duplicates { count: 20_000, first: Some(((100_000, 100_001), (0, 1))) });
    selection.hold_out(0.1).unwrap();
    let (kept, held_out) = (of_part(&selection, Part::Training), of_part(&selection, Part::HeldOut));
    let prompts = |groups: &[PromptGroup]| prompts(groups).into_iter().collect::<std::collections::HashSet<_>>();
    assert!(prompts(&kept).is_disjoint(&prompts(&held_out)));
    assert!((12_000..12_003).contains(&held_out.len()), "{}", held_out.len());
}

proptest! {
    #[test]
    fn a_prompt_is_never_on_both_sides(
        numbers in prop::collection::vec(0usize..30, 1..80), fraction in 0.01f64..0.9, seed in 0u64..8,
    ) {
        let folder = TempDir::new().unwrap();
        let named: Vec<String> = numbers.iter().map(|number| format!("p{number}")).collect();
        let all: Vec<(&str, &[&str])> = named.iter().map(|name| (name.as_str(), ["a", "b"].as_slice())).collect();
        let path = rows(&folder, &all, 0);
        let options = MixOptions { seed, ..MixOptions::default() };
        let mut selection = select(&[(&path, 1.0)], &options);
        let groups = groups(&selection);
        selection.hold_out(fraction).unwrap();
        let (kept, held_out) = (of_part(&selection, Part::Training), of_part(&selection, Part::HeldOut));
        prop_assert_eq!(&(kept.clone(), held_out.clone()), &held_out_before(groups, fraction, seed));
        prop_assert_eq!(kept.len() + held_out.len(), numbers.len());
        let wanted = ((fraction * numbers.len() as f64).round() as usize).max(1);
        prop_assert!(held_out.len() >= wanted, "{} of {wanted}", held_out.len());
        prop_assert!(held_out.iter().all(|held| kept.iter().all(|kept| kept.prompt != held.prompt)));
        for side in [kept, held_out] {
            prop_assert!(side.is_sorted_by(|a, b| a.index < b.index));
        }
    }
}

/// The split as the first version made it, with all groups in memory: recipes must go on holding out the same prompts.
fn held_out_before(groups: Vec<PromptGroup>, fraction: f64, seed: u64) -> (Vec<PromptGroup>, Vec<PromptGroup>) {
    use rand::SeedableRng;
    use rand::seq::SliceRandom;
    let wanted = ((fraction * groups.len() as f64).round() as usize).max(1);
    let mut distinct: Vec<Prompt> = Vec::new();
    groups.iter().for_each(|group| {
        if !distinct.contains(&group.prompt) {
            distinct.push(group.prompt.clone());
        }
    });
    let mut order: Vec<usize> = (0..distinct.len()).collect();
    let mut key = blake3::Hasher::new();
    key.update(&13_u64.to_le_bytes()).update(b"eval_fraction").update(&seed.to_le_bytes());
    order.shuffle(&mut rand_chacha::ChaCha8Rng::from_seed(*key.finalize().as_bytes()));
    let mut chosen: Vec<Prompt> = Vec::new();
    for number in order {
        if groups.iter().filter(|group| chosen.contains(&group.prompt)).count() >= wanted {
            break;
        }
        chosen.push(distinct[number].clone());
    }
    groups.into_iter().partition(|group| !chosen.contains(&group.prompt))
}
