//! The best and the worst response of each prompt, for objectives on pairs.

use collimate_objective::{ObjectiveBackend, ScoredGroups, Tensor};

/// A value of the best and of the worst response of each prompt.
///
/// Among equal rewards the earlier response is the better: best = first maximum, worst = last minimum.
///
/// # Shapes
/// Both `[B]`.
pub(crate) struct Pair {
    pub(crate) best: Tensor<ObjectiveBackend, 1>,
    pub(crate) worst: Tensor<ObjectiveBackend, 1>,
}

impl Pair {
    /// Takes the pair out of values `[B, K]`.
    pub(crate) fn of(groups: &ScoredGroups, values: Tensor<ObjectiveBackend, 2>) -> Self {
        Self { best: groups.best(values.clone()), worst: groups.worst(values) }
    }

    /// The pair of log-ratios Δ.
    pub(crate) fn of_log_ratios(groups: &ScoredGroups) -> Self {
        Self::of(groups, groups.log_ratios())
    }

    /// Best minus worst, `[B]`.
    pub(crate) fn margin(self) -> Tensor<ObjectiveBackend, 1> {
        self.best - self.worst
    }
}
