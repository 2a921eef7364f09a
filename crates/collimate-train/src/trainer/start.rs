//! What came before a run's first step.

use std::time::{Duration, Instant};

use crate::reference::{Origins, Waiting};
use collimate_checkpoint::Checkpoint;

/// What a run's first step needs to know of what came before it.
pub(super) struct Start<'a> {
    /// Where an earlier process got to.
    pub(super) checkpoint: Option<Checkpoint>,
    /// What it trains and compares with.
    pub(super) origins: Origins,
    /// What it compares with, unless all of that is known.
    pub(super) reference: Option<Waiting<'a>>,
    /// When the process began with the run.
    pub(super) begun: Instant,
    /// How long the sample answers took.
    pub(super) samples: Duration,
    /// The ranks whose micro-batches make up a step, if they are several.
    pub(super) ranks: Option<usize>,
}
