//! The schedules by their names in transformers.

use serde::Serialize;
use serde_json::{Value as Json, json};
use serde_yaml_ng::Value;

use crate::values::KeyType;

/// Shape of the learning rate after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Half a cosine down to zero.
    Cosine,
    /// A straight line down to zero.
    Linear,
    /// The base rate from the first step, without warm-up.
    Constant,
    /// The base rate after warm-up.
    ConstantWithWarmup,
    /// Several half cosines down to zero, each from the base rate.
    CosineWithRestarts,
    /// Half a cosine down to a rate above zero.
    CosineWithMinLr,
    /// The same, one step ahead: neither the first step nor the last has a rate of zero.
    CosineWarmupWithMinLr,
    /// A power of the remaining share of steps.
    Polynomial,
    /// One over the root of the step.
    InverseSqrt,
    /// The base rate until a decay at the end.
    WarmupStableDecay,
}

/// Every schedule with its name and the arguments that `lr_scheduler_kwargs` may give it.
const KINDS: [(ScheduleKind, &str, &[&str]); 10] = [
    (ScheduleKind::Cosine, "cosine", &["num_cycles"]),
    (ScheduleKind::Linear, "linear", &[]),
    (ScheduleKind::Constant, "constant", &[]),
    (ScheduleKind::ConstantWithWarmup, "constant_with_warmup", &[]),
    (ScheduleKind::CosineWithRestarts, "cosine_with_restarts", &["num_cycles"]),
    (ScheduleKind::CosineWithMinLr, "cosine_with_min_lr", &["min_lr", "min_lr_rate", "num_cycles"]),
    (
        ScheduleKind::CosineWarmupWithMinLr,
        "cosine_warmup_with_min_lr",
        &["min_lr", "min_lr_rate", "num_cycles", "warmup_lr_rate"],
    ),
    (ScheduleKind::Polynomial, "polynomial", &["lr_end", "power"]),
    (ScheduleKind::InverseSqrt, "inverse_sqrt", &["timescale"]),
    (
        ScheduleKind::WarmupStableDecay,
        "warmup_stable_decay",
        &["num_decay_steps", "num_stable_steps", "warmup_type", "decay_type", "min_lr_ratio", "num_cycles"],
    ),
];

impl ScheduleKind {
    /// Every schedule.
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().map(|(kind, ..)| *kind)
    }

    /// The kind with this name in recipes.
    pub fn from_name(name: &str) -> Option<Self> {
        KINDS.iter().find(|(_, known, _)| *known == name).map(|(kind, ..)| *kind)
    }

    /// Its name in recipes.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The arguments that it takes.
    pub(super) fn arguments(self) -> &'static [&'static str] {
        self.row().2
    }

    fn row(self) -> &'static (Self, &'static str, &'static [&'static str]) {
        // Every kind has a row, which a test checks.
        KINDS.iter().find(|(kind, ..)| *kind == self).unwrap_or(&KINDS[0])
    }
}

impl KeyType for ScheduleKind {
    const EXPECTED: &'static str = "cosine, linear, constant, constant_with_warmup, cosine_with_restarts, cosine_with_min_lr, \
                                    cosine_warmup_with_min_lr, polynomial, inverse_sqrt or warmup_stable_decay";
    fn from_yaml(value: &Value) -> Option<Self> {
        Self::from_name(value.as_str()?)
    }

    fn schema() -> Json {
        json!({"enum": KINDS.map(|(_, name, _)| name)})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_name_which_errors_list() {
        for kind in ScheduleKind::all() {
            assert_eq!(ScheduleKind::from_name(kind.name()), Some(kind));
            assert_eq!(serde_json::to_value(kind).expect("JSON"), kind.name());
            assert!(<ScheduleKind as KeyType>::EXPECTED.contains(kind.name()), "{}", kind.name());
        }
    }
}
