//! Random draws that depend only on seed and purpose.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::bits::Bits;

/// Draws `count` of the positions `0..total`.
pub(super) fn draw(total: u32, count: usize, seed: u64, purpose: &[&str]) -> Bits {
    let mut positions: Vec<u32> = (0..total).collect();
    positions.shuffle(&mut generator(seed, purpose));
    let mut drawn = Bits::none(total as usize);
    positions.iter().take(count).for_each(|position| drawn.set(*position as usize, true));
    drawn
}

/// Chooses groups to hold out: a `fraction` of them, rounded, at least one. Groups with the same prompt stay together, so
/// there may be slightly more.
///
/// `prompts` has, for each group, the first group with the same prompt. What is chosen depends only on the seed and the
/// number of prompts.
pub(super) fn hold_out(mut prompts: Vec<u32>, fraction: f64, seed: u64) -> Bits {
    let wanted = ((fraction * prompts.len() as f64).round() as usize).max(1);
    let mut sizes: Vec<u32> = Vec::new();
    for group in 0..prompts.len() {
        // Numbers of prompts take the place of groups; that of an earlier group is known already.
        let first = prompts[group] as usize;
        let number = if first == group { sizes.len() as u32 } else { prompts[first] };
        if first == group {
            sizes.push(0);
        }
        sizes[number as usize] += 1;
        prompts[group] = number;
    }
    let mut order: Vec<u32> = (0..sizes.len() as u32).collect();
    order.shuffle(&mut generator(seed, &["eval_fraction"]));
    let mut is_held_out = Bits::none(sizes.len());
    let mut taken = 0;
    for number in order {
        if taken >= wanted {
            break;
        }
        is_held_out.set(number as usize, true);
        taken += sizes[number as usize] as usize;
    }
    let mut chosen = Bits::default();
    prompts.iter().for_each(|number| chosen.push(is_held_out.get(*number as usize)));
    chosen
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws over positions of eight bytes, as earlier versions made them: recipes must go on choosing the same groups.
    fn wide(total: usize, count: usize, seed: u64, purpose: &[&str]) -> Vec<usize> {
        let mut positions: Vec<usize> = (0..total).collect();
        positions.shuffle(&mut generator(seed, purpose));
        positions.truncate(count);
        positions.sort_unstable();
        positions
    }

    #[test]
    fn what_is_drawn_does_not_depend_on_the_width_of_a_position() {
        for (total, count) in [(0, 0), (1, 1), (7, 3), (1000, 999), (40_000, 123)] {
            let drawn = draw(total, count, 42, &["share", "a.jsonl"]);
            let drawn: Vec<usize> = (0..total as usize).filter(|position| drawn.get(*position)).collect();
            assert_eq!(drawn, wide(total as usize, count, 42, &["share", "a.jsonl"]));
        }
    }

    #[test]
    fn groups_of_one_prompt_stay_together() {
        // Prompts a b a c a b.
        let prompts = vec![0, 1, 0, 3, 0, 1];
        for seed in 0..20 {
            let chosen = hold_out(prompts.clone(), 0.3, seed);
            let of = |groups: &[usize]| groups.iter().map(|group| chosen.get(*group)).collect::<Vec<_>>();
            for same in [of(&[0, 2, 4]), of(&[1, 5])] {
                assert!(same.iter().all(|chosen| *chosen == same[0]), "{seed}: {same:?}");
            }
            assert!(chosen.count() >= 2 && chosen.count() < 6, "{seed}");
        }
    }
}
