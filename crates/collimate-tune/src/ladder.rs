//! How many candidates go how far.

use crate::error::TuneError;

/// The share of the budget that is planned for steps; the rest is for evaluations, checkpoints and reading.
const STEP_SHARE: f64 = 0.6;

/// The least steps of the first rung, if the run has so many: after one step of a warm-up nothing has been learned, and all
/// candidates are equal.
const LEAST_FIRST: usize = 4;

/// The rungs of a successive halving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder {
    /// Candidates on each rung; the last has at most two.
    pub sizes: Vec<usize>,
    /// Steps after which each rung is judged; each is twice the one before.
    pub steps: Vec<usize>,
}

impl Ladder {
    /// Candidates on each rung.
    fn sizes(candidates: usize) -> Vec<usize> {
        let mut sizes = vec![candidates];
        while let Some(last) = sizes.last().copied().filter(|last| *last > 2) {
            sizes.push(last.div_ceil(2));
        }
        sizes
    }

    /// A ladder whose last rung has `total_steps`, or fewer so that it divides into rungs.
    pub fn with_steps(candidates: usize, total_steps: usize) -> Option<Self> {
        let sizes = Self::sizes(candidates);
        let first = total_steps >> (sizes.len() - 1);
        let steps = (0..sizes.len()).map(|rung| first << rung).collect();
        (first > 0).then_some(Self { sizes, steps })
    }

    /// The longest ladder for a budget in seconds, of at most `total_steps`. `seeds` is how often each finalist is run.
    ///
    /// # Errors
    /// Not even a first rung of four steps fits into the budget, or the run has too few steps for so many candidates.
    pub fn within(
        candidates: usize,
        seeds: usize,
        total_steps: usize,
        step_seconds: f64,
        budget: f64,
    ) -> Result<Self, TuneError> {
        let shortest = Self::with_steps(candidates, usize::MAX >> 1).map_or(1, |ladder| 1 << (ladder.sizes.len() - 1));
        if total_steps < shortest {
            let problem = format!(
                "{candidates} need a run of {shortest} steps, one for the first rung, and the recipe has {total_steps}"
            );
            return Err(TuneError::option("--candidates", problem));
        }
        let unit = Self::with_steps(candidates, shortest).map_or(1, |ladder| ladder.all_steps(seeds));
        let affordable = STEP_SHARE * budget / (unit as f64 * step_seconds.max(1e-9));
        // So many steps on the first rung.
        let first = (affordable as usize).min(total_steps / shortest);
        let least = LEAST_FIRST.min(total_steps / shortest);
        if first < least {
            let needed = ((unit * least) as f64 * step_seconds / STEP_SHARE).ceil();
            let problem = format!(
                "{budget:.0} s are too few: {candidates} candidates with {least} steps on the first rung take about \
                 {needed:.0} s; give more time or fewer --candidates"
            );
            return Err(TuneError::option("--budget", problem));
        }
        Self::with_steps(candidates, first * shortest).ok_or_else(|| TuneError::option("--budget", "is too short"))
    }

    /// Steps of a run that comes to the last rung.
    pub fn total_steps(&self) -> usize {
        self.steps.last().copied().unwrap_or(0)
    }

    /// Steps of all runs, each finalist being run `seeds` times.
    pub fn all_steps(&self, seeds: usize) -> usize {
        let before = std::iter::once(0).chain(self.steps.iter().copied());
        let rungs = self.sizes.iter().zip(self.steps.iter().zip(before)).map(|(size, (to, from))| size * (to - from));
        let finalists = self.sizes.last().copied().unwrap_or(0);
        rungs.sum::<usize>() + finalists * seeds.saturating_sub(1) * self.total_steps()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_twice_as_far() {
        let ladder = Ladder::with_steps(8, 43).expect("a ladder");
        assert_eq!(ladder, Ladder { sizes: vec![8, 4, 2], steps: vec![10, 20, 40] });
        assert_eq!(ladder.all_steps(1), 8 * 10 + 4 * 10 + 2 * 20);
        assert_eq!(ladder.all_steps(3), 8 * 10 + 4 * 10 + 2 * 20 + 2 * 2 * 40);
        assert_eq!(Ladder::with_steps(5, 12).expect("a ladder").sizes, [5, 3, 2]);
        assert_eq!(Ladder::with_steps(2, 7).expect("a ladder"), Ladder { sizes: vec![2], steps: vec![7] });
        assert_eq!(Ladder::with_steps(8, 3), None);
    }

    #[test]
    fn a_ladder_fits_its_budget_and_the_run() {
        // 16 of the first rung's steps for the rungs, 8 for the second seeds: 24 steps of 0.5 s, and three fifths of the time.
        let within = |total, budget| Ladder::within(8, 2, total, 0.5, budget);
        assert_eq!(within(1000, 24.0 * 0.5 / 0.6 * 5.01).expect("a ladder").steps, [5, 10, 20]);
        assert_eq!(within(10, 1e6).expect("a ladder").steps, [2, 4, 8]);
        let error = |total, budget| within(total, budget).expect_err("too little").to_string();
        assert!(
            error(1000, 5.0)
                .contains("--budget: 5 s are too few: 8 candidates with 4 steps on the first rung take about 80 s"),
            "{}",
            error(1000, 5.0)
        );
        assert!(error(3, 1e6).contains("--candidates: 8 need a run of 4 steps"), "{}", error(3, 1e6));
    }
}
