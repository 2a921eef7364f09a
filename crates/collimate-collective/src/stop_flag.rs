//! The request to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A flag that a signal handler sets and a run checks between steps. Clones share the flag.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicUsize>);

impl StopFlag {
    /// Requests a stop on behalf of this signal number.
    pub fn request(&self, signal: usize) {
        self.0.store(signal, Ordering::SeqCst);
    }

    /// The number of the signal that requested a stop, if any.
    pub fn requested(&self) -> Option<usize> {
        Some(self.0.load(Ordering::SeqCst)).filter(|signal| *signal > 0)
    }

    /// The shared number itself, in which a signal handler stores its signal.
    pub fn number(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.0)
    }
}
