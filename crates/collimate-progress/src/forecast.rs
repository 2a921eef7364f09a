//! The time that is left, from what each kind of work took so far.

/// A kind of work that a run's time goes into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// An optimizer step.
    Step,
    /// An evaluation of all held-out groups.
    Evaluation,
    /// Writing a checkpoint.
    Checkpoint,
    /// Answering all sample prompts.
    Samples,
    /// Scoring the reference for a step.
    Reference,
}

/// Weight of the newest time once there are many: the last twenty count.
const NEWEST: f64 = 0.05;

/// What each kind of work takes, from the times so far.
#[derive(Debug, Clone, Default)]
pub struct Forecast {
    /// By kind: how often it was timed, and its mean in seconds.
    means: [(u32, f64); 5],
}

impl Forecast {
    /// Adds a time in seconds.
    pub fn spent(&mut self, work: Work, seconds: f64) {
        let (count, mean) = &mut self.means[work as usize];
        // The first time of several includes what only happens once, such as touching memory.
        let is_warm_up = *count == 1;
        *count += 1;
        let weight = if is_warm_up { 1.0 } else { (1.0 / f64::from((*count - 1).max(1))).max(NEWEST) };
        *mean += weight * (seconds - *mean);
    }

    /// Seconds that this kind of work takes; `None` before it was timed.
    pub fn mean(&self, work: Work) -> Option<f64> {
        let (count, mean) = self.means[work as usize];
        (count > 0).then_some(mean)
    }

    /// Seconds that this work will take; `None` before a step was timed. Other work that was not timed yet counts as
    /// nothing.
    pub fn left(&self, work: &[(Work, usize)]) -> Option<f64> {
        self.mean(Work::Step)?;
        Some(work.iter().map(|&(kind, count)| count as f64 * self.mean(kind).unwrap_or(0.0)).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_counts_every_kind_of_work() {
        let mut forecast = Forecast::default();
        forecast.spent(Work::Evaluation, 10.0);
        forecast.spent(Work::Samples, 6.0);
        let left = [(Work::Step, 100), (Work::Evaluation, 5), (Work::Checkpoint, 3), (Work::Samples, 1)];
        assert_eq!(forecast.left(&left), None, "no step was timed");
        for seconds in [9.0, 2.0, 2.0] {
            forecast.spent(Work::Step, seconds);
        }
        assert_eq!(forecast.left(&left), Some(100.0 * 2.0 + 5.0 * 10.0 + 6.0));
        forecast.spent(Work::Checkpoint, 4.0);
        assert_eq!(forecast.left(&left), Some(100.0 * 2.0 + 5.0 * 10.0 + 6.0 + 3.0 * 4.0));
        assert_eq!(forecast.left(&[(Work::Samples, 1)]), Some(6.0));
    }

    #[test]
    fn it_follows_a_change_of_pace() {
        let mut forecast = Forecast::default();
        (0..100).for_each(|_| forecast.spent(Work::Step, 1.0));
        (0..100).for_each(|_| forecast.spent(Work::Step, 3.0));
        let mean = forecast.mean(Work::Step).expect("steps were timed");
        assert!((mean - 3.0).abs() < 0.02, "{mean}");
    }
}
