//! What tells that a file is still the one that was read.

use std::fs::Metadata;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Where a file is, its length, and when its bytes and its entry were changed last, in nanoseconds.
///
/// On Unix nothing but a change of the clock can set the last back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: i128,
    changed: i128,
}

/// Nanoseconds within which a file could be changed again without another time: clocks of file systems tick slowly.
const TICK: i128 = 2_000_000_000;

impl Stamp {
    #[cfg(unix)]
    pub(crate) fn new(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    #[cfg(not(unix))]
    pub(crate) fn new(metadata: &Metadata) -> Self {
        let modified = metadata.modified().map_or(0, nanoseconds);
        Self { device: 0, inode: 0, len: metadata.len(), modified, changed: modified }
    }

    /// Whether the file was changed so lately, or in the future, that the next change might leave the same stamp.
    pub(crate) fn is_fresh(&self) -> bool {
        self.modified.max(self.changed) > nanoseconds(SystemTime::now()) - TICK
    }
}

fn nanoseconds(time: SystemTime) -> i128 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    }
}
