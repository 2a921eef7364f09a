//! When to log, evaluate and save, and what to do about a non-finite step.

use serde::Serialize;
use serde_json::{Value as Json, json};
use serde_yaml_ng::Value;

use crate::due_steps::DueSteps;
use crate::values::KeyType;

/// What to do about a step whose loss or gradient is not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNonfinite {
    /// Stop the run and name the step and the groups.
    Stop,
    /// Skip the update; count and report the step.
    Skip,
}

impl KeyType for OnNonfinite {
    const EXPECTED: &'static str = "stop or skip";
    fn from_yaml(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "stop" => Some(Self::Stop),
            "skip" => Some(Self::Skip),
            _ => None,
        }
    }

    fn schema() -> Json {
        json!({"enum": ["stop", "skip"]})
    }
}

/// When something recurs between the start and the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IntervalStrategy {
    /// Never.
    No,
    /// At an interval of steps, which another key sets.
    Steps,
    /// After each pass over the data.
    Epoch,
}

impl IntervalStrategy {
    /// The steps after which it is due; an interval `steps` of zero means never.
    pub(crate) fn due_steps(self, steps: usize, steps_per_epoch: usize) -> DueSteps {
        match self {
            Self::No => DueSteps::default(),
            Self::Steps => DueSteps::every(steps),
            Self::Epoch => DueSteps::every(steps_per_epoch),
        }
    }
}

impl KeyType for IntervalStrategy {
    const EXPECTED: &'static str = "no, steps or epoch";
    fn from_yaml(value: &Value) -> Option<Self> {
        // YAML 1.1 reads a bare `no` as false.
        match (value.as_str(), value.as_bool()) {
            (Some("no"), _) | (_, Some(false)) => Some(Self::No),
            (Some("steps"), _) => Some(Self::Steps),
            (Some("epoch"), _) => Some(Self::Epoch),
            _ => None,
        }
    }

    fn schema() -> Json {
        json!({"enum": ["no", "steps", "epoch", false]})
    }
}
