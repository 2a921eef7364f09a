//! What a download tells while it runs.

use std::fmt;

/// Receives the progress of downloads.
pub trait Watch: fmt::Debug + Send + Sync {
    /// The download of a file begins, or goes on where it stopped: `done` of its `total` bytes are there.
    fn begin(&self, file: &str, done: u64, total: u64);
    /// So many more bytes are there.
    fn advance(&self, bytes: u64);
    /// A message for the user: why a wait is long, and that something is tried again.
    fn note(&self, text: &str);
    /// The file is complete, or given up.
    fn end(&self);
}

/// Tells nobody.
#[derive(Debug)]
pub(crate) struct Nobody;

impl Watch for Nobody {
    fn begin(&self, _file: &str, _done: u64, _total: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn note(&self, _text: &str) {}
    fn end(&self) {}
}
