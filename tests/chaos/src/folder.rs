//! The state of a run, observed from its folder.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The contents of a run's folder that show its progress.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Whether the folder exists.
    pub(crate) exists: bool,
    /// Checkpoints being written.
    pub(crate) staging: BTreeSet<String>,
    /// Files being written.
    pub(crate) temporaries: BTreeSet<String>,
    /// Steps of the checkpoints.
    pub(crate) checkpoints: BTreeSet<usize>,
    /// Size of `metrics.jsonl`, those of a loop's rounds together.
    pub(crate) metrics_bytes: u64,
    /// Size of the files in the reference cache.
    pub(crate) cache_bytes: u64,
}

impl Snapshot {
    /// Inspects the folder, `run` in it, the rounds of a loop in `run`, and `cache`; entries that disappear meanwhile are
    /// ignored.
    pub(crate) fn read(folder: &Path) -> Self {
        let run = folder.join("run");
        let mut snapshot = Self { exists: run.is_dir(), ..Self::default() };
        for (name, bytes) in entries(&run) {
            if let Some(step) = step_of(&name) {
                snapshot.checkpoints.insert(step);
            } else if name.starts_with("round-") {
                entries(&run.join(&name)).for_each(|(inner, bytes)| snapshot.add(format!("{name}/{inner}"), bytes));
            } else {
                snapshot.add(name, bytes);
            }
        }
        // What other verbs write.
        entries(folder).for_each(|(name, bytes)| snapshot.add(name, bytes));
        snapshot.cache_bytes = entries(&folder.join("cache")).map(|(_, bytes)| bytes).sum();
        snapshot
    }

    fn add(&mut self, name: String, bytes: u64) {
        let last = name.rsplit('/').next().unwrap_or_default();
        if is_staging(last) {
            self.staging.insert(name);
        } else if is_temporary(last) {
            self.temporaries.insert(name);
        } else if last == "metrics.jsonl" {
            self.metrics_bytes += bytes;
        }
    }

    /// Step of the newest checkpoint, or 0.
    pub(crate) fn newest(&self) -> usize {
        self.checkpoints.last().copied().unwrap_or(0)
    }
}

/// Names and sizes of a folder's entries.
fn entries(folder: &Path) -> impl Iterator<Item = (String, u64)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| {
        let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
        (entry.file_name().to_string_lossy().into_owned(), bytes)
    })
}

/// The step of a checkpoint's folder.
pub(crate) fn step_of(name: &str) -> Option<usize> {
    name.strip_prefix("checkpoint-")?.parse().ok()
}

/// Whether a name is that of a checkpoint being written.
pub(crate) fn is_staging(name: &str) -> bool {
    name.starts_with(".checkpoint-")
}

/// Whether a name is that of a file being written.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.ends_with(".tmp") || name.ends_with(".new")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_seen_by_its_files() {
        let around = tempfile::tempdir().expect("a folder");
        let folder = around.path().join("here");
        assert_eq!(Snapshot::read(&folder), Snapshot::default());
        for name in ["run/checkpoint-9", "run/checkpoint-10", "run/.checkpoint-x1", "cache"] {
            fs::create_dir_all(folder.join(name)).expect("a folder");
        }
        let files = ["run/metrics.jsonl", "run/.model.safetensors.7.tmp", "run/metrics.jsonl.new", "cache/a.logps"];
        for name in files {
            fs::write(folder.join(name), "12345").expect("a file");
        }
        let snapshot = Snapshot::read(&folder);
        assert_eq!((snapshot.exists, snapshot.newest()), (true, 10));
        assert_eq!((snapshot.staging.len(), snapshot.temporaries.len()), (1, 2));
        assert_eq!((snapshot.metrics_bytes, snapshot.cache_bytes), (5, 5));
        fs::create_dir_all(folder.join("run/round-2")).expect("a folder");
        for name in [".samples.jsonl.9.tmp", "run/round-2/metrics.jsonl", "run/round-2/.README.md.3.tmp"] {
            fs::write(folder.join(name), "12345").expect("a file");
        }
        let snapshot = Snapshot::read(&folder);
        assert_eq!((snapshot.temporaries.len(), snapshot.metrics_bytes), (4, 10));
        assert!(snapshot.temporaries.contains("round-2/.README.md.3.tmp"));
    }
}
