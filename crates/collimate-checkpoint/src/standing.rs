//! What a checkpoint keeps of a run's evaluations.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What the evaluations of a run come to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// The best evaluation after a step.
    pub best: Option<BestEvaluation>,
    /// Evaluations in a row that did not improve on the best.
    pub without_improvement: usize,
    /// Watched figures in the first evaluation that had them.
    pub first: BTreeMap<String, f64>,
    /// Watched figures in the last evaluation.
    pub last: BTreeMap<String, f64>,
}

/// The best evaluation of a run so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BestEvaluation {
    /// Optimizer steps finished before it.
    pub step: usize,
    /// Its figure.
    pub value: f64,
}

impl Standing {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
