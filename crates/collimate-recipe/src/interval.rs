//! Numbers of steps, also as a share of a run's steps.

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};
use serde_yaml_ng::Value;

use crate::values::KeyType;

/// A number of steps: a whole number, or a share of all steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NumSteps {
    /// So many steps.
    Count(usize),
    /// This share of all steps, in (0, 1), rounded up to a whole step.
    Share(f64),
}

impl NumSteps {
    /// The number of steps in a run of `total_steps`.
    pub fn resolve(self, total_steps: usize) -> usize {
        match self {
            Self::Count(steps) => steps,
            Self::Share(share) => (share * total_steps as f64).ceil() as usize,
        }
    }

    /// Whether it is zero, which mostly means never.
    pub fn is_zero(self) -> bool {
        self == Self::Count(0)
    }
}

impl From<usize> for NumSteps {
    fn from(steps: usize) -> Self {
        Self::Count(steps)
    }
}

impl Serialize for NumSteps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(steps) => steps.serialize(serializer),
            Self::Share(share) => share.serialize(serializer),
        }
    }
}

impl KeyType for NumSteps {
    const EXPECTED: &'static str = "a whole number of steps of at least 0, or a share of all steps below 1";
    fn from_yaml(value: &Value) -> Option<Self> {
        if let Some(steps) = usize::from_yaml(value) {
            return Some(Self::Count(steps));
        }
        let number = f64::from_yaml(value)?;
        match number {
            // Other trainers write whole numbers as 100.0 too.
            whole if whole >= 0.0 && whole.fract() == 0.0 && whole <= f64::from(u32::MAX) => {
                Some(Self::Count(whole as usize))
            }
            share if 0.0 < share && share < 1.0 => Some(Self::Share(share)),
            _ => None,
        }
    }

    fn schema() -> Json {
        json!({"type": "number", "minimum": 0})
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0", Some(NumSteps::Count(0)), 0)]
    #[case("7", Some(NumSteps::Count(7)), 7)]
    #[case("7.0", Some(NumSteps::Count(7)), 7)]
    #[case("0.25", Some(NumSteps::Share(0.25)), 3)]
    #[case("0.001", Some(NumSteps::Share(0.001)), 1)]
    #[case("1.5", None, 0)]
    #[case("-1", None, 0)]
    #[case("-0.5", None, 0)]
    #[case("often", None, 0)]
    fn counts_and_shares_are_read_and_read_back(
        #[case] yaml: &str,
        #[case] expected: Option<NumSteps>,
        #[case] of_ten: usize,
    ) {
        let read = |text: &str| NumSteps::from_yaml(&serde_yaml_ng::from_str(text).expect("YAML"));
        assert_eq!(read(yaml), expected);
        if let Some(steps) = expected {
            assert_eq!(read(&serde_yaml_ng::to_string(&steps).expect("YAML")), expected);
            assert_eq!(steps.resolve(10), of_ten);
        }
    }
}
