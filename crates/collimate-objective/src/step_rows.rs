//! Random draws for the rows of a step.

/// The rows of a step, for draws that depend on nothing but seed, step and row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepRows {
    /// The run's seed.
    pub seed: u64,
    /// The step, from 0.
    pub step: usize,
    /// Number of rows (prompts) of the step.
    pub count: usize,
}

impl StepRows {
    /// A number in [0, 1) that is the same in every run of this seed.
    pub fn uniform(&self, row: usize) -> f64 {
        let words = [self.seed, self.step as u64, row as u64];
        let mixed = words.into_iter().fold(0x0063_6361, |state: u64, word| mix(state.wrapping_add(word)));
        (mixed >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A step of SplitMix64.
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(seed: u64, step: usize) -> Vec<f64> {
        let rows = StepRows { seed, step, count: 4000 };
        (0..rows.count).map(|row| rows.uniform(row)).collect()
    }

    #[test]
    fn draws_are_even_and_differ_between_seeds_steps_and_rows() {
        let first = draws(42, 0);
        assert_eq!(first, draws(42, 0));
        assert!(first.iter().all(|draw| (0.0..1.0).contains(draw)));
        // The share below a tenth, with a standard deviation of 0.5 %.
        let below = |draws: &[f64]| draws.iter().filter(|draw| **draw < 0.1).count() as f64 / draws.len() as f64;
        for other in [draws(43, 0), draws(42, 1)] {
            let both = first.iter().zip(&other).filter(|(a, b)| **a < 0.1 && **b < 0.1).count();
            assert!((below(&other) - 0.1).abs() < 0.025 && (20..=65).contains(&both), "{both}");
        }
        assert!((below(&first) - 0.1).abs() < 0.025);
    }
}
