//! What the flat keys add to an objective.

use serde_json::Value as Json;

/// Parameters and supervised terms.
#[derive(Debug, Default, Clone)]
pub(super) struct Parts {
    pub(super) params: Vec<Parameter>,
    /// TRL's `rpo_alpha`: weight of a supervised term.
    pub(super) supervised: Option<f64>,
    /// CPO's `cpo_alpha` and SimPO's `sft_weight`: the same, but a parameter if the objective has one.
    pub(super) cpo_supervised: Option<f64>,
}

impl Parts {
    /// Adds what was given later.
    pub(super) fn extend(&mut self, later: Self) {
        self.params.extend(later.params);
        self.supervised = later.supervised.or(self.supervised);
        self.cpo_supervised = later.cpo_supervised.or(self.cpo_supervised);
    }
}

#[derive(Debug, Clone)]
pub(super) struct Parameter {
    pub(super) key: &'static str,
    pub(super) name: &'static str,
    pub(super) value: Json,
    /// Whether an objective without the parameter ignores it.
    pub(super) is_idle: bool,
}
