//! Seeds for a round's random draws.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a seed is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The order of the data, dropout, a fresh adapter.
    Training,
    /// Responses to training prompts, by number of the call.
    Sampling(u32),
    /// Responses to held-out prompts: the same draws in every round, so that rounds can be compared.
    Evaluation(u32),
}

/// A seed that depends only on the loop's seed, the round and the purpose.
pub(super) fn seed_of(seed: u64, round: usize, purpose: Purpose) -> u64 {
    let (number, round, call) = match purpose {
        Purpose::Training => (0, round, 0),
        Purpose::Sampling(call) => (1, round, call),
        Purpose::Evaluation(call) => (2, 0, call),
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(round as u64 * 3 + number);
    // Sixteen words per call.
    rng.set_word_pos(u128::from(call) * 16);
    // 32 bits: some tools that read recipes cannot represent larger integers.
    u64::from(rng.next_u32())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_round_and_purpose_has_a_seed_of_its_own() {
        let purposes = [Purpose::Training, Purpose::Sampling(0), Purpose::Sampling(1)];
        let all = |seed| (1..40).flat_map(move |round| purposes.map(|purpose| seed_of(seed, round, purpose)));
        let distinct: HashSet<u64> = all(42).chain(all(43)).collect();
        assert_eq!(distinct.len(), 2 * 39 * 3);
        assert_eq!(seed_of(42, 7, Purpose::Training), seed_of(42, 7, Purpose::Training));
        assert_eq!(seed_of(42, 1, Purpose::Evaluation(3)), seed_of(42, 9, Purpose::Evaluation(3)));
        assert_ne!(seed_of(42, 1, Purpose::Evaluation(3)), seed_of(42, 1, Purpose::Evaluation(4)));
    }
}
