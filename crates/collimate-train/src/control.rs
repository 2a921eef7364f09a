//! Controls a run from outside: whether it resumes, how it is stopped, where it reports.

use collimate_collective::{Collective, Ranks, StopFlag};
use collimate_progress::Observer;

use crate::error::TrainError;

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
    /// Of which this process is one.
    pub(crate) ranks: Ranks<'a>,
}

impl<'a> RunContext<'a> {
    /// A context that reports to `observer` and ends early when `stop` is set.
    pub fn new(stop: &'a StopFlag, observer: &'a mut dyn Observer) -> Self {
        Self { stop, observer, ranks: Ranks::solo(stop) }
    }

    /// The same for one of several processes. `asked` is set when this process is asked to stop, and `agreed` when all know.
    pub(crate) fn among(
        world: &'a dyn Collective,
        asked: &'a StopFlag,
        agreed: &'a StopFlag,
        observer: &'a mut dyn Observer,
    ) -> Self {
        Self { stop: agreed, observer, ranks: Ranks::among(world, asked, agreed) }
    }
}

impl std::fmt::Debug for RunContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunContext").field("stop", self.stop).finish_non_exhaustive()
    }
}

/// Ends what is under way if a stop was requested. Whoever can say what is kept replaces the error's empty account.
pub(crate) fn check_stop(stop: &StopFlag) -> Result<(), TrainError> {
    match stop.requested() {
        Some(signal) => Err(TrainError::Interrupted { signal, saved: String::new() }),
        None => Ok(()),
    }
}
