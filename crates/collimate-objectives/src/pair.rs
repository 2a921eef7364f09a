//! The best and worst response of each prompt, for pairwise objectives.

use collimate_objective::{ObjectiveBackend, ScoredGroups, Tensor};

/// One value for the best and one for the worst response of each prompt.
///
/// Among ties the earlier response is the better: best = first maximum, worst = last minimum.
///
/// # Shapes
/// Both `[B]`.
pub(crate) struct Pair {
    pub(crate) best: Tensor<ObjectiveBackend, 1>,
    pub(crate) worst: Tensor<ObjectiveBackend, 1>,
}

impl Pair {
    /// Selects the pair from `values`, `[B, K]`.
    pub(crate) fn new(groups: &ScoredGroups, values: Tensor<ObjectiveBackend, 2>) -> Self {
        Self { best: groups.best(values.clone()), worst: groups.worst(values) }
    }

    /// Best minus worst, `[B]`.
    pub(crate) fn margin(self) -> Tensor<ObjectiveBackend, 1> {
        self.best - self.worst
    }
}
