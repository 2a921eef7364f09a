//! The resources of a process at one moment.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::folder::{is_staging, is_temporary};

/// One observation of a process and its folder.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Sample {
    /// Minutes since the start.
    pub(crate) minutes: f64,
    /// Resident memory.
    pub(crate) rss_kib: u64,
    /// Resident memory not backed by files: heap and stacks.
    pub(crate) anonymous_kib: u64,
    /// Open files, sockets and pipes.
    #[serde(rename = "handles")]
    pub(crate) num_handles: usize,
    /// Threads.
    #[serde(rename = "threads")]
    pub(crate) num_threads: usize,
    /// Size of `metrics.jsonl`, which grows by a row per step.
    pub(crate) metrics_bytes: u64,
    /// Step of the newest checkpoint.
    pub(crate) step: usize,
    /// Size of the output folder without the metrics.
    pub(crate) folder_bytes: u64,
    /// Files and folders being written.
    #[serde(rename = "temporaries")]
    pub(crate) num_temporaries: usize,
}

impl Sample {
    /// Observes a process that runs in `folder`.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub(crate) fn take(id: u32, folder: &Path, time: Duration) -> Result<Self> {
        let process = Path::new("/proc").join(id.to_string());
        let read = |name: &str| {
            let path = process.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let status = read("status")?;
        // Not readable everywhere, and only shown.
        let anonymous_kib = read("smaps_rollup").ok().and_then(|text| number(&text, "Anonymous:"));
        let handles = process.join("fd");
        let handles = fs::read_dir(&handles).with_context(|| format!("cannot read {}", handles.display()))?;
        let (Some(rss_kib), Some(num_threads)) = (number(&status, "VmRSS:"), number(&status, "Threads:")) else {
            bail!("/proc/{id}/status has no VmRSS and Threads");
        };
        Ok(Self {
            minutes: time.as_secs_f64() / 60.0,
            rss_kib,
            anonymous_kib: anonymous_kib.unwrap_or(0),
            num_handles: handles.count(),
            num_threads: num_threads as usize,
            ..Self::of_folder(folder)
        })
    }

    /// Observes only the folder.
    pub(crate) fn of_folder(folder: &Path) -> Self {
        let mut sample = Self::default();
        sample.look_into(&folder.join("run"), true);
        sample
    }

    fn look_into(&mut self, folder: &Path, is_run: bool) {
        // Entries that disappear meanwhile are ignored.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(metadata) = entry.metadata() else { continue };
            self.num_temporaries += usize::from(is_run && (is_staging(&name) || is_temporary(&name)));
            if metadata.is_dir() {
                let step = name.strip_prefix("checkpoint-").and_then(|step| step.parse().ok());
                self.step = self.step.max(step.unwrap_or(0));
                self.look_into(&entry.path(), false);
            } else if is_run && name == "metrics.jsonl" {
                self.metrics_bytes = metadata.len();
            } else {
                self.folder_bytes += metadata.len();
            }
        }
    }

    /// A line for the log.
    pub(crate) fn text(&self) -> String {
        format!(
            "{:.1} min: step {}, {:.1} MiB resident, {} handles, {} threads, metrics {:.1} MiB, folder {:.1} MiB, {} temporary",
            self.minutes,
            self.step,
            self.rss_kib as f64 / 1024.0,
            self.num_handles,
            self.num_threads,
            self.metrics_bytes as f64 / f64::from(1 << 20),
            self.folder_bytes as f64 / f64::from(1 << 20),
            self.num_temporaries,
        )
    }
}

/// The number after a label at the start of a line: `VmRSS:     1234 kB`.
fn number(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_follows_its_label() {
        let status = "Name:\tcollimate\nVmHWM:\t  99 kB\nVmRSS:\t  1234 kB\nThreads:\t5\n";
        assert_eq!((number(status, "VmRSS:"), number(status, "Threads:")), (Some(1234), Some(5)));
        assert_eq!(number(status, "VmSwap:"), None);
    }

    #[test]
    fn metrics_and_the_rest_of_the_folder_are_measured_apart() {
        let around = tempfile::tempdir().expect("a folder");
        let folder = around.path();
        for name in ["run/checkpoint-100", "run/checkpoint-200", "run/.checkpoint-x"] {
            fs::create_dir_all(folder.join(name)).expect("a folder");
        }
        let files = [("run/metrics.jsonl", 7), ("run/checkpoint-200/model", 5), ("run/.a.1.tmp", 1), ("run/recipe", 2)];
        for (name, len) in files {
            fs::write(folder.join(name), vec![0; len]).expect("a file");
        }
        let sample = Sample::of_folder(folder);
        assert_eq!((sample.metrics_bytes, sample.folder_bytes), (7, 5 + 1 + 2));
        assert_eq!((sample.step, sample.num_temporaries), (200, 2));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_sample_of_this_process_can_be_taken() {
        let sample = Sample::take(std::process::id(), Path::new("/no-such-folder"), Duration::from_secs(30));
        let sample = sample.expect("readable");
        assert!(sample.rss_kib > 100 && sample.num_handles > 2 && sample.num_threads > 0, "{sample:?}");
        assert_eq!((sample.minutes, sample.folder_bytes), (0.5, 0));
    }
}
