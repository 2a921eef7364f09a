//! Determines whether the samples of a long run show growth.

use std::fmt::Write;

use anyhow::Result;
use serde_json::json;

use crate::signal::End;
use crate::soak::sample::Sample;

/// Growth that allocators and the first batches explain, however long the run.
const NOISE_KIB: f64 = 4096.0;
/// Handles that are open only briefly, such as a checkpoint's file or a folder being synced.
const PASSING_HANDLES: usize = 3;

/// The limits of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Growth of resident memory, in KiB a minute.
    pub(crate) growth_kib: f64,
    /// Length of the run.
    pub(crate) minutes: f64,
}

/// First and last samples, and the trend between them.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    /// The first sample after warm-up.
    first: Sample,
    /// The last one.
    last: Sample,
    /// Least-squares slope of resident memory after warm-up, in KiB a minute.
    slope_kib: f64,
    /// Minutes that the slope covers.
    span: f64,
    peak_kib: u64,
    /// Most handles in the first and the last quarter after warm-up, and overall.
    handles: [usize; 3],
    /// Fewest temporary files in the last quarter; more than zero means leftovers.
    temporaries: usize,
    /// Temporary files after the process has ended.
    temporaries_after: usize,
    end: End,
}

impl Summary {
    /// Summarizes the samples of a run, its folder after its end, and how it ended.
    pub(crate) fn new(samples: &[Sample], after: &Sample, end: End) -> Self {
        let warm = after_warm_up(samples);
        let quarter = warm.len().div_ceil(4);
        let most = |some: &[Sample]| some.iter().map(|sample| sample.num_handles).max().unwrap_or(0);
        let (early, late) = (&warm[..quarter], &warm[warm.len() - quarter..]);
        let points: Vec<(f64, f64)> = warm.iter().map(|sample| (sample.minutes, sample.rss_kib as f64)).collect();
        Self {
            first: warm.first().unwrap_or(after).clone(),
            last: warm.last().unwrap_or(after).clone(),
            slope_kib: slope(&points),
            span: warm.last().zip(warm.first()).map_or(0.0, |(last, first)| last.minutes - first.minutes),
            peak_kib: samples.iter().map(|sample| sample.rss_kib).max().unwrap_or(0),
            handles: [most(early), most(late), most(samples)],
            temporaries: late.iter().map(|sample| sample.num_temporaries).min().unwrap_or(0),
            temporaries_after: after.num_temporaries,
            end,
        }
    }

    /// Everything that grew beyond its bound or was left over.
    pub(crate) fn failures(&self, bounds: &Bounds) -> Vec<String> {
        let mut failures = Vec::new();
        if self.slope_kib * self.span > (bounds.growth_kib * self.span).max(NOISE_KIB) {
            failures.push(format!(
                "resident memory grows by {:.1} KiB a minute; {} are allowed",
                self.slope_kib, bounds.growth_kib
            ));
        }
        let [early, late, _] = self.handles;
        if late > early + PASSING_HANDLES {
            failures.push(format!("handles grow: {early} at most at first, {late} in the end"));
        }
        if self.last.num_threads > self.first.num_threads {
            failures.push(format!(
                "threads grow: {} at first, {} in the end",
                self.first.num_threads, self.last.num_threads
            ));
        }
        // A sample may include one more checkpoint, while it is being written.
        if self.last.folder_bytes > 2 * self.first.folder_bytes.max(1) && self.first.step > 0 {
            failures.push(format!(
                "the folder grows: {} bytes at first, {} in the end, without the metrics",
                self.first.folder_bytes, self.last.folder_bytes
            ));
        }
        if self.temporaries > 0 || self.temporaries_after > 0 {
            let count = self.temporaries.max(self.temporaries_after);
            failures.push(format!("{count} temporary files or folders were left over"));
        }
        if self.end.code != Some(143) {
            failures.push(format!("asked to end by SIGTERM it ended with {}", self.end));
        }
        if self.span < bounds.minutes / 2.0 {
            failures.push(format!("only {:.1} of {:.1} minutes were sampled after warm-up", self.span, bounds.minutes));
        }
        failures
    }

    /// A few lines for the log.
    pub(crate) fn text(&self) -> String {
        let mib = |kib: u64| kib as f64 / 1024.0;
        let [early, late, most] = self.handles;
        let mut text = String::new();
        let _ = writeln!(text, "first after warm-up: {}", self.first.text());
        let _ = writeln!(text, "last:                {}", self.last.text());
        let _ = writeln!(
            text,
            "resident memory: {:.1} to {:.1} MiB, at most {:.1}; {:+.2} KiB a minute over {:.1} minutes (least squares)",
            mib(self.first.rss_kib),
            mib(self.last.rss_kib),
            mib(self.peak_kib),
            self.slope_kib,
            self.span
        );
        let _ = writeln!(text, "handles: at most {early} in the first quarter, {late} in the last, {most} in all");
        let _ = writeln!(text, "left over after the end: {}; it ended with {}", self.temporaries_after, self.end);
        text
    }

    /// As JSON, with all samples.
    pub(crate) fn json(&self, work: &str, threads: usize, samples: &[Sample], failures: &[String]) -> Result<String> {
        let json = json!({
            "work": work,
            "threads": threads,
            "slope_kib_per_minute": self.slope_kib,
            "minutes_after_warm_up": self.span,
            "peak_rss_kib": self.peak_kib,
            "max_handles": self.handles[2],
            "end": self.end.to_string(),
            "first": self.first,
            "last": self.last,
            "failures": failures,
            "samples": samples,
        });
        Ok(serde_json::to_string_pretty(&json)? + "\n")
    }
}

/// Skips the first fifth, at most five minutes, in which batches, evaluation and checkpoints set the level.
fn after_warm_up(samples: &[Sample]) -> &[Sample] {
    let whole = samples.last().map_or(0.0, |sample| sample.minutes);
    let warm_up = (whole / 5.0).min(5.0);
    let start = samples.iter().position(|sample| sample.minutes >= warm_up).unwrap_or(samples.len());
    &samples[start..]
}

/// Least-squares slope, or 0 for fewer than two distinct times.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |value: fn(&(f64, f64)) -> f64| points.iter().map(value).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let variance: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if variance > 0.0 { covariance / variance } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const BOUNDS: Bounds = Bounds { growth_kib: 64.0, minutes: 60.0 };
    const STOPPED: End = End { code: Some(143), signal: None };

    /// A sample a minute for an hour.
    fn hour(change: impl Fn(usize, &mut Sample)) -> Vec<Sample> {
        let sample = |minute: usize| {
            let mut sample = Sample {
                minutes: minute as f64,
                rss_kib: 100_000,
                num_handles: 8 + minute % 2,
                num_threads: 2,
                step: 100 * minute,
                folder_bytes: 1000 + 500 * (minute as u64 % 2),
                num_temporaries: minute % 2,
                ..Sample::default()
            };
            change(minute, &mut sample);
            sample
        };
        (1..=60).map(sample).collect()
    }

    fn failures(samples: &[Sample]) -> Vec<String> {
        let folder = Sample::default();
        Summary::new(samples, &folder, STOPPED).failures(&BOUNDS)
    }

    #[test]
    fn the_slope_is_that_of_the_line() {
        let line: Vec<(f64, f64)> = (0..10).map(|x| (f64::from(x), 3.0 + 2.0 * f64::from(x))).collect();
        assert!((slope(&line) - 2.0).abs() < 1e-12);
        assert_eq!(slope(&[(1.0, 5.0)]), 0.0);
        assert_eq!(slope(&[]), 0.0);
    }

    #[test]
    fn fluctuation_is_no_growth() {
        assert_eq!(failures(&hour(|_, _| {})), Vec::<String>::new());
        // Large at first, constant afterwards.
        assert_eq!(
            failures(&hour(|minute, sample| sample.rss_kib += if minute > 4 { 50_000 } else { 0 })),
            Vec::<String>::new()
        );
    }

    #[test]
    fn growth_is_named() {
        let grows = |change: fn(usize, &mut Sample)| failures(&hour(change));
        let memory = grows(|minute, sample| sample.rss_kib += 100 * minute as u64);
        assert_eq!(memory, ["resident memory grows by 100.0 KiB a minute; 64 are allowed"]);
        let slow = grows(|minute, sample| sample.rss_kib += 60 * minute as u64);
        assert_eq!(slow, Vec::<String>::new());
        let handles = grows(|minute, sample| sample.num_handles += minute);
        assert!(handles[0].starts_with("handles grow: "), "{handles:?}");
        let threads = grows(|minute, sample| sample.num_threads += minute);
        assert!(threads[0].starts_with("threads grow: "), "{threads:?}");
        let folder = grows(|minute, sample| sample.folder_bytes += 1000 * minute as u64);
        assert!(folder[0].starts_with("the folder grows: "), "{folder:?}");
        let files = grows(|_, sample| sample.num_temporaries += 1);
        assert_eq!(files, ["1 temporary files or folders were left over"]);
    }

    #[test]
    fn a_run_that_does_not_end_itself_or_is_too_short_fails() {
        let (samples, folder) = (hour(|_, _| {}), Sample::default());
        let killed = Summary::new(&samples, &folder, End { code: None, signal: Some(15) }).failures(&BOUNDS);
        assert_eq!(killed, ["asked to end by SIGTERM it ended with signal 15"]);
        let few = failures(&samples[..4]);
        assert_eq!(few.len(), 1, "{few:?}");
        assert!(few[0].starts_with("only "), "{few:?}");
    }

    #[test]
    fn json_has_first_last_and_all_samples() {
        let (samples, folder) = (hour(|_, _| {}), Sample::default());
        let json = Summary::new(&samples, &folder, STOPPED).json("full", 1, &samples, &["a \"b\"".to_owned()]);
        let json: Value = serde_json::from_str(&json.expect("text")).expect("JSON");
        assert_eq!((&json["failures"], &json["end"]), (&json!(["a \"b\""]), &json!("exit code 143")));
        let samples = json["samples"].as_array().expect("samples").iter().chain([&json["first"], &json["last"]]);
        assert_eq!(samples.filter(|sample| sample["rss_kib"] == 100_000).count(), 60 + 2);
    }
}
