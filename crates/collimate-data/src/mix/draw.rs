//! Random draws that depend only on seed and purpose.

use std::collections::HashMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::{Prompt, PromptGroup};

/// Draws `count` of the positions `0..total`; sorted.
pub(super) fn draw(total: usize, count: usize, seed: u64, purpose: &[&str]) -> Vec<usize> {
    let mut positions: Vec<usize> = (0..total).collect();
    positions.shuffle(&mut generator(seed, purpose));
    positions.truncate(count);
    positions.sort_unstable();
    positions
}

/// Splits groups into training and held-out groups: a `fraction` of them is held out, rounded, at least one.
///
/// Groups with the same prompt stay together, so the held-out part may be slightly larger. Both parts keep their order.
/// Which prompts are held out depends only on the seed and the number of prompts.
pub fn hold_out(groups: Vec<PromptGroup>, fraction: f64, seed: u64) -> (Vec<PromptGroup>, Vec<PromptGroup>) {
    let wanted = ((fraction * groups.len() as f64).round() as usize).max(1);
    let mut numbers: HashMap<&Prompt, usize> = HashMap::new();
    let mut sizes: Vec<usize> = Vec::new();
    let prompt_of: Vec<usize> = groups
        .iter()
        .map(|group| {
            let number = *numbers.entry(&group.prompt).or_insert(sizes.len());
            if number == sizes.len() {
                sizes.push(0);
            }
            sizes[number] += 1;
            number
        })
        .collect();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.shuffle(&mut generator(seed, &["eval_fraction"]));
    let mut is_held_out = vec![false; sizes.len()];
    let mut taken = 0;
    for number in order {
        if taken >= wanted {
            break;
        }
        is_held_out[number] = true;
        taken += sizes[number];
    }
    let (held_out, kept): (Vec<_>, Vec<_>) =
        groups.into_iter().zip(prompt_of).partition(|(_, number)| is_held_out[*number]);
    let groups = |part: Vec<(PromptGroup, usize)>| part.into_iter().map(|(group, _)| group).collect();
    (groups(kept), groups(held_out))
}

fn generator(seed: u64, purpose: &[&str]) -> ChaCha8Rng {
    let mut key = blake3::Hasher::new();
    for word in purpose {
        // The length distinguishes ("ab", "c") from ("a", "bc").
        key.update(&(word.len() as u64).to_le_bytes()).update(word.as_bytes());
    }
    key.update(&seed.to_le_bytes());
    ChaCha8Rng::from_seed(*key.finalize().as_bytes())
}
