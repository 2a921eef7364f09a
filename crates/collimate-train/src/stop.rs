//! Asking a run to stop after its step.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A flag that a signal handler may set and a run looks at between steps. Clones are the same flag.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicUsize>);

impl StopFlag {
    /// Asks for the end, on behalf of a signal of this number.
    pub fn request(&self, signal: usize) {
        self.0.store(signal, Ordering::SeqCst);
    }

    /// The number of the signal that asked for the end, if one did.
    pub fn requested(&self) -> Option<usize> {
        Some(self.0.load(Ordering::SeqCst)).filter(|signal| *signal > 0)
    }

    /// The flag itself, for a signal handler that stores its signal's number.
    pub fn number(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.0)
    }
}

/// How a run begins and how it may end early.
#[derive(Debug, Clone, Default)]
pub struct RunControl {
    /// Go on from the newest sound checkpoint of the output folder.
    pub resume: bool,
    /// Looked at after every step, and after every batch of the reference's scoring and of evaluation.
    pub stop: StopFlag,
}
