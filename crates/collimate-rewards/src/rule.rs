//! The rule by which rewards are computed, parsed from its name.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::{DEFAULT_PRIOR_PRECISION, EloOptions};

/// How to compute rewards from a row's numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum RewardFrom {
    /// The layout's own number, or another one by name (a key of the response or of its `scores`).
    Field {
        /// A field other than the layout's own.
        name: Option<String>,
    },
    /// [`linear_rank`](super::linear_rank) of the rank, or of the scores' mean ranks.
    Rank,
    /// [`ndcg_gain`](super::ndcg_gain) of the score, or of `K − rank`.
    Ndcg,
    /// [`bradley_terry`](super::bradley_terry) on the prompt's pairwise wins.
    BradleyTerry {
        /// Precision λ of the prior, above 0.
        prior_precision: f64,
    },
    /// [`plackett_luce`](super::plackett_luce) on the prompt's ranking.
    PlackettLuce {
        /// Precision λ of the prior, above 0.
        prior_precision: f64,
    },
    /// [`elo`](super::elo) over the prompt's pairs.
    Elo(EloOptions),
    /// [`aspect_mean`](super::aspect_mean) of the rated aspects, or their weighted sum.
    Aspects {
        /// Weights by aspect; empty for the plain mean.
        weights: BTreeMap<String, f64>,
    },
}

impl fmt::Display for RewardFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field { name: None } => f.write_str("field"),
            Self::Field { name: Some(name) } => write!(f, "field:{name}"),
            Self::Rank => f.write_str("rank"),
            Self::Ndcg => f.write_str("ndcg"),
            Self::BradleyTerry { prior_precision } => write!(f, "bradley_terry:{prior_precision}"),
            Self::PlackettLuce { prior_precision } => write!(f, "plackett_luce:{prior_precision}"),
            Self::Elo(_) => f.write_str("elo"),
            Self::Aspects { weights } if weights.is_empty() => f.write_str("aspects"),
            Self::Aspects { weights } => {
                let items: Vec<String> = weights.iter().map(|(aspect, weight)| format!("{aspect}={weight}")).collect();
                write!(f, "aspects:{}", items.join(","))
            }
        }
    }
}

impl FromStr for RewardFrom {
    type Err = String;

    /// `field[:NAME]`, `rank`, `ndcg`, `bradley_terry[:PRECISION]` (also `pairs`), `plackett_luce[:PRECISION]`, `elo`,
    /// `aspects[:NAME=WEIGHT,…]`.
    fn from_str(text: &str) -> Result<Self, String> {
        match parse_arguments(text) {
            ("field", name) => Ok(Self::Field { name: name.map(str::to_owned) }),
            ("rank", None) => Ok(Self::Rank),
            ("ndcg", None) => Ok(Self::Ndcg),
            ("bradley_terry" | "pairs", precision) => {
                Ok(Self::BradleyTerry { prior_precision: parse_precision(text, precision)? })
            }
            ("plackett_luce", precision) => {
                Ok(Self::PlackettLuce { prior_precision: parse_precision(text, precision)? })
            }
            ("elo", None) => Ok(Self::Elo(EloOptions::default())),
            ("aspects", None) => Ok(Self::Aspects { weights: BTreeMap::new() }),
            ("aspects", Some(items)) => Ok(Self::Aspects { weights: parse_weights(text, items)? }),
            _ => Err(format!(
                "\"{text}\" is not a source of rewards; there are field[:NAME], rank, ndcg, pairs (the same as \
                 bradley_terry[:PRECISION]), plackett_luce[:PRECISION], elo and aspects[:NAME=WEIGHT,…]"
            )),
        }
    }
}

/// Splits `name:arguments`.
pub(super) fn parse_arguments(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((name, arguments)) => (name.trim(), Some(arguments.trim())),
        None => (text.trim(), None),
    }
}

fn parse_precision(text: &str, precision: Option<&str>) -> Result<f64, String> {
    let Some(precision) = precision else { return Ok(DEFAULT_PRIOR_PRECISION) };
    match precision.parse::<f64>() {
        Ok(precision) if precision > 0.0 && precision.is_finite() => Ok(precision),
        _ => Err(format!("\"{text}\": the prior's precision must be a number above 0")),
    }
}

fn parse_weights(text: &str, items: &str) -> Result<BTreeMap<String, f64>, String> {
    let bad = || format!("\"{text}\": expected aspects:NAME=WEIGHT,…, such as aspects:helpfulness=1,honesty=0.5");
    items
        .split(',')
        .map(|item| {
            let (aspect, weight) = item.split_once('=').ok_or_else(bad)?;
            let weight = weight.trim().parse::<f64>().ok().filter(|weight| weight.is_finite()).ok_or_else(bad)?;
            Ok((aspect.trim().to_owned(), weight))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("field")]
    #[case("field:overall")]
    #[case("rank")]
    #[case("ndcg")]
    #[case("bradley_terry:0.5")]
    #[case("plackett_luce:0.1")]
    #[case("elo")]
    #[case("aspects")]
    #[case("aspects:helpfulness=1,honesty=0.5")]
    fn names_round_trip(#[case] text: &str) {
        assert_eq!(text.parse::<RewardFrom>().unwrap().to_string(), text);
    }

    #[rstest]
    #[case("bradley_terry:0", "precision must be a number above 0")]
    #[case("aspects:helpfulness", "aspects:NAME=WEIGHT")]
    #[case("votes", "there are field[:NAME], rank")]
    fn an_error_lists_the_alternatives(#[case] text: &str, #[case] expected: &str) {
        let message = text.parse::<RewardFrom>().unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
}
