//! The maximum size of one file of weights.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Maximum bytes of tensors in one safetensors file: transformers' `max_shard_size`, `5GB` by default.
///
/// A larger tensor gets a file of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardSize(u64);

/// transformers' units: decimal, or binary with an i.
const UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

impl ShardSize {
    /// A size in bytes; `None` for zero.
    pub fn from_bytes(bytes: u64) -> Option<Self> {
        (bytes > 0).then_some(Self(bytes))
    }

    /// The size in bytes.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Default for ShardSize {
    fn default() -> Self {
        Self(5_000_000_000)
    }
}

/// A text that is not a file size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a size such as 5GB, 500MB or 2GiB, found \"{0}\"")]
pub struct ShardSizeError(String);

impl FromStr for ShardSize {
    type Err = ShardSizeError;

    fn from_str(text: &str) -> Result<Self, ShardSizeError> {
        let wrong = || ShardSizeError(text.to_owned());
        let lower = text.trim().to_ascii_lowercase();
        let (number, unit) = lower.split_at(lower.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(lower.len()));
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let bytes = number.trim().parse::<f64>().map_err(|_| wrong())? * *factor as f64;
        if !(1.0..2f64.powi(63)).contains(&bytes) {
            return Err(wrong());
        }
        Ok(Self(bytes as u64))
    }
}

impl fmt::Display for ShardSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The largest unit that gives a whole number.
        let unit = UNITS.iter().filter(|(_, factor)| self.0.is_multiple_of(*factor)).max_by_key(|(_, factor)| *factor);
        let (name, factor) = unit.copied().unwrap_or(("", 1));
        let name = name.to_ascii_uppercase().replace('I', "i");
        write!(f, "{}{name}", self.0 / factor)
    }
}

impl Serialize for ShardSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("5GB", 5_000_000_000, "5GB")]
    #[case("500MB", 500_000_000, "500MB")]
    #[case(" 2 GiB ", 2 << 30, "2GiB")]
    #[case("1.5gb", 1_500_000_000, "1500MB")]
    #[case("200kb", 200_000, "200KB")]
    #[case("12345", 12_345, "12345")]
    fn sizes_are_read_as_transformers_writes_them(#[case] text: &str, #[case] bytes: u64, #[case] shown: &str) {
        let size: ShardSize = text.parse().expect("a size");
        assert_eq!((size, size.to_string().as_str()), (ShardSize(bytes), shown));
        assert_eq!(shown.parse(), Ok(size), "reads back");
    }

    #[rstest]
    #[case("")]
    #[case("0")]
    #[case("-5GB")]
    #[case("5 parsecs")]
    #[case("GB")]
    #[case("nan")]
    #[case("9e99GB")]
    fn other_texts_are_refused(#[case] text: &str) {
        let error = text.parse::<ShardSize>().expect_err("no size");
        assert_eq!(error.to_string(), format!("expected a size such as 5GB, 500MB or 2GiB, found \"{text}\""));
    }

    #[test]
    fn the_default_is_that_of_transformers() {
        assert_eq!(ShardSize::default(), "5GB".parse().expect("a size"));
    }
}
