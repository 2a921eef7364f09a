//! LoRA dropout whose draws depend on (seed, step, pack, layer) and nothing else.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Which draws to make: the same key gives the same masks, whatever ran before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DropoutKey {
    /// The run's seed.
    pub seed: u64,
    /// Optimizer step, from 0.
    pub step: u64,
    /// Number of the pack inside the step, from 0.
    pub pack: u64,
}

/// Dropout on the inputs of adapters, in training only.
///
/// The prompt's tokens are computed once for all K responses, so they share one mask; a trainer that repeats the prompt
/// draws K masks.
#[derive(Debug, Clone)]
pub(crate) struct Dropout {
    pub(crate) probability: f64,
    pub(crate) key: DropoutKey,
}

impl Dropout {
    pub(crate) fn apply<B: Backend>(&self, x: Tensor<B, 2>, linear: usize) -> Tensor<B, 2> {
        let shape = x.dims();
        let mask = self.mask(shape[0] * shape[1], linear);
        let device = x.device();
        x * Tensor::from_data(TensorData::new(mask, shape), &device)
    }

    /// 0 with the probability, else 1 / (1 − probability).
    fn mask(&self, len: usize, linear: usize) -> Vec<f32> {
        let mut seed = [0u8; 32];
        let words = [self.key.seed, self.key.step, self.key.pack, linear as u64];
        for (chunk, word) in seed.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        let mut rng = ChaCha8Rng::from_seed(seed);
        let kept = (1.0 / (1.0 - self.probability)) as f32;
        // A draw is below the threshold with exactly the probability, to 32 bits.
        let threshold = (self.probability * 2f64.powi(32)) as u64;
        (0..len).map(|_| if u64::from(rng.random::<u32>()) < threshold { 0.0 } else { kept }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropout(step: u64) -> Dropout {
        Dropout { probability: 0.25, key: DropoutKey { seed: 1, step, pack: 0 } }
    }

    #[test]
    fn the_same_key_gives_the_same_mask_and_another_key_another() {
        assert_eq!(dropout(3).mask(1000, 5), dropout(3).mask(1000, 5));
        assert_ne!(dropout(3).mask(1000, 5), dropout(4).mask(1000, 5));
        assert_ne!(dropout(3).mask(1000, 5), dropout(3).mask(1000, 6));
    }

    #[test]
    fn a_quarter_is_dropped_and_the_expectation_is_kept() {
        let mask = dropout(0).mask(100_000, 0);
        let dropped = mask.iter().filter(|&&m| m == 0.0).count() as f64 / 1e5;
        let mean = mask.iter().map(|&m| f64::from(m)).sum::<f64>() / 1e5;
        // Five standard deviations of a binomial share: 5 sqrt(p (1 − p) / n).
        let bound = 5.0 * (0.25 * 0.75 / 1e5f64).sqrt();
        assert!((dropped - 0.25).abs() < bound, "{dropped}");
        assert!((mean - 1.0).abs() < bound / 0.75, "{mean}");
    }
}
