//! After which steps of a run something is due.

/// The steps of a run after which something is due: at an interval, after the first or after the last.
///
/// Counting takes the same time however many steps there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DueSteps {
    /// Interval in steps; zero if there is none.
    interval: usize,
    first: bool,
    last: Option<usize>,
}

impl DueSteps {
    /// After every `interval` steps; never if that is zero.
    pub fn every(interval: usize) -> Self {
        Self { interval, ..Self::default() }
    }

    /// Also after the first step, if `first`.
    pub(crate) fn with_first(self, first: bool) -> Self {
        Self { first, ..self }
    }

    /// Also after the `last` step of the run.
    #[must_use]
    pub fn with_last(self, last: usize) -> Self {
        Self { last: Some(last), ..self }
    }

    /// Whether something is due after `finished_steps`.
    pub fn contains(self, finished_steps: usize) -> bool {
        self.is_regular(finished_steps) || (self.first && finished_steps == 1) || self.last == Some(finished_steps)
    }

    /// How often something is due in the first `num_steps` steps.
    pub fn count(self, num_steps: usize) -> usize {
        let first = self.first.then_some(1);
        let irregular = [first, self.last.filter(|last| Some(*last) != first)].into_iter().flatten();
        let irregular = irregular.filter(|step| (1..=num_steps).contains(step) && !self.is_regular(*step)).count();
        num_steps.checked_div(self.interval).unwrap_or(0) + irregular
    }

    fn is_regular(self, finished_steps: usize) -> bool {
        self.interval > 0 && finished_steps.is_multiple_of(self.interval)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_many_are_counted_as_are_due(
            interval in 0_usize..6,
            first: bool,
            last in proptest::option::of(0_usize..12),
            num_steps in 0_usize..12,
        ) {
            let due = DueSteps { interval, first, last };
            prop_assert_eq!(due.count(num_steps), (1..=num_steps).filter(|step| due.contains(*step)).count());
        }
    }

    #[test]
    fn two_billion_steps_are_counted_at_once() {
        let begun = std::time::Instant::now();
        let steps = i32::MAX as usize;
        let due = DueSteps::every(10).with_first(true).with_last(steps);
        assert_eq!(due.count(steps), steps / 10 + 2);
        assert!(begun.elapsed().as_millis() < 100, "{:?}", begun.elapsed());
    }
}
