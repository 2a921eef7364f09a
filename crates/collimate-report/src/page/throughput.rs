//! Speed and memory over the steps.

use crate::charts::Series;
use crate::metrics::MetricsRow;

const MIB: f64 = (1 << 20) as f64;

/// Tokens a second in the steps that were recorded, by step.
pub(super) fn tokens_per_second(rows: &[MetricsRow]) -> Vec<(f64, f64)> {
    let mut before = (0.0, 0.0);
    let rate = |row: &MetricsRow| {
        let (step, tokens, seconds) = (row.get("step")?, row.get("num_tokens")?, row.get("step_seconds")?);
        // The time is that of one step; the tokens are those of all since the row before.
        let rate = (tokens - before.1) / (step - before.0) / seconds;
        before = (step, tokens);
        Some((step, rate)).filter(|(_, rate)| rate.is_finite() && *rate >= 0.0)
    };
    rows.iter().filter_map(rate).collect()
}

pub(super) fn speed(rows: &[MetricsRow], name: &str, colour: usize) -> Series {
    Series::new(name, colour, tokens_per_second(rows)).smoothed()
}

/// The process's memory after each step, in MiB.
pub(super) fn memory(rows: &[MetricsRow], name: &str, colour: usize) -> Series {
    let points = rows.iter().filter_map(|row| Some((row.get("step")?, row.get("memory_bytes")? / MIB)));
    Series::new(name, colour, points.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_steps_that_were_not_recorded_are_not_counted_into_the_others() {
        let row = |step: u64, tokens: u64, seconds: f64| {
            let mut row = MetricsRow::default();
            row.set_count("step", step);
            row.set_count("num_tokens", tokens);
            row.set("step_seconds", seconds);
            row
        };
        // 100 tokens a step, of which every tenth is recorded.
        let rates = tokens_per_second(&[row(10, 1000, 0.5), row(20, 2000, 0.25), row(20, 2000, 0.25)]);
        assert_eq!(rates, [(10.0, 200.0), (20.0, 400.0)]);
    }
}
