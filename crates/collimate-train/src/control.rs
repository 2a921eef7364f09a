//! Controls a run from outside: whether it resumes, how it is stopped, where it reports.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use collimate_progress::Observer;

use crate::error::TrainError;

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

    /// Ends what is under way if a stop was requested. Whoever can say what is kept replaces the error's empty account.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        match self.requested() {
            Some(signal) => Err(TrainError::Interrupted { signal, saved: String::new() }),
            None => Ok(()),
        }
    }

    /// The shared number itself, in which a signal handler stores its signal.
    pub fn number(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.0)
    }
}

/// How a run begins and how it may end early.
#[derive(Debug, Clone, Default)]
pub struct RunControl {
    /// Continue from the newest sound checkpoint of the output folder.
    pub resume: bool,
    /// Checked after every step, after every micro-batch of reference scoring and evaluation, and between the packs of each.
    pub stop: StopFlag,
}

/// What every long operation of a run needs from outside: whom to report to, and whether to stop.
pub struct RunContext<'a> {
    /// Checked between steps and between micro-batches.
    pub stop: &'a StopFlag,
    /// Receives stages, progress and notes.
    pub observer: &'a mut dyn Observer,
}

impl<'a> RunContext<'a> {
    /// A context that reports to `observer` and ends early when `stop` is set.
    pub fn new(stop: &'a StopFlag, observer: &'a mut dyn Observer) -> Self {
        Self { stop, observer }
    }
}

impl std::fmt::Debug for RunContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunContext").field("stop", self.stop).finish_non_exhaustive()
    }
}
