//! Parameter types that are in range by construction.

use serde::{Deserialize, Serialize};

/// A number is outside a parameter's range, or not finite.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("expected {expected}, found {found}")]
pub struct OutOfRange {
    /// The range, in words.
    pub expected: &'static str,
    /// The rejected number.
    pub found: f64,
}

macro_rules! bounded {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $inside:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "f64", into = "f64")]
        pub struct $name(f64);

        impl $name {
            /// Checks the range.
            ///
            /// # Errors
            /// The number is out of range or not finite.
            pub fn new(value: f64) -> Result<Self, OutOfRange> {
                let is_inside: fn(f64) -> bool = $inside;
                if value.is_finite() && is_inside(value) {
                    Ok(Self(value))
                } else {
                    Err(OutOfRange { expected: $expected, found: value })
                }
            }

            /// For defaults written in code.
            ///
            /// # Panics
            /// If the number is out of range: a bug in the objective.
            pub fn constant(value: f64) -> Self {
                Self::new(value).unwrap_or_else(|error| panic!("{error}"))
            }

            /// The number.
            pub fn get(self) -> f64 {
                self.0
            }
        }

        impl TryFrom<f64> for $name {
            type Error = OutOfRange;

            fn try_from(value: f64) -> Result<Self, OutOfRange> {
                Self::new(value)
            }
        }

        impl From<$name> for f64 {
            fn from(value: $name) -> f64 {
                value.0
            }
        }
    };
}

bounded!(
    /// A number > 0: β, α and other scales.
    Positive, "a number > 0", |v| v > 0.0
);
bounded!(
    /// A number ≥ 0: margins and weights.
    NonNegative, "a number >= 0", |v| v >= 0.0
);
bounded!(
    /// A rate of wrong labels in [0, ½).
    Smoothing, "a number in [0, 0.5)", |v| (0.0..0.5).contains(&v)
);
bounded!(
    /// A rate of wrong labels in (0, ½), for losses that take its logarithm.
    PositiveSmoothing, "a number in (0, 0.5)", |v| v > 0.0 && v < 0.5
);
bounded!(
    /// A number in (0, 1].
    UpToOne, "a number in (0, 1]", |v| v > 0.0 && v <= 1.0
);

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Positive::new(0.0).is_err())]
    #[case(Positive::new(1e-300).is_ok())]
    #[case(Positive::new(f64::NAN).is_err())]
    #[case(Positive::new(f64::INFINITY).is_err())]
    #[case(NonNegative::new(0.0).is_ok())]
    #[case(NonNegative::new(-1e-9).is_err())]
    #[case(Smoothing::new(0.0).is_ok())]
    #[case(Smoothing::new(0.5).is_err())]
    #[case(PositiveSmoothing::new(0.0).is_err())]
    #[case(PositiveSmoothing::new(0.49).is_ok())]
    #[case(UpToOne::new(1.0).is_ok())]
    #[case(UpToOne::new(1.01).is_err())]
    fn ranges_hold_at_their_ends(#[case] holds: bool) {
        assert!(holds);
    }
}
