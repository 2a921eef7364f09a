//! Errors of finding, building and evaluating objectives.

/// An objective could not be found, built or evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectiveError {
    /// No objective has this name.
    #[error("no objective is called {name:?}{}", did_you_mean(nearest))]
    UnknownObjective {
        /// The requested name.
        name: String,
        /// Similar registered names, nearest first.
        nearest: Vec<String>,
    },
    /// Two objectives are registered under one name.
    #[error("two objectives are called {name:?}: one from {first}, one from {second}; rename one of them")]
    DuplicateObjective {
        /// The shared name.
        name: String,
        /// Source file and line of one registration.
        first: String,
        /// Source file and line of the other.
        second: String,
    },
    /// The objective does not have this parameter.
    #[error("objective {objective:?} has no parameter {key:?}{}; it has {}", did_you_mean(nearest), known_list(known))]
    UnknownParameter {
        /// Name of the objective.
        objective: String,
        /// The unknown key.
        key: String,
        /// Similar keys, nearest first.
        nearest: Vec<String>,
        /// All known keys.
        known: Vec<String>,
    },
    /// A parameter's value is out of range or of the wrong type.
    #[error("objective {objective:?}: parameter {key:?} = {value}: {reason}")]
    InvalidParameter {
        /// Name of the objective.
        objective: String,
        /// The parameter.
        key: String,
        /// The value, as JSON.
        value: String,
        /// What was expected.
        reason: String,
    },
    /// The batch has no prompts.
    #[error("a batch needs at least one prompt, found none")]
    EmptyBatch,
    /// A group's fields do not match in length, or hold a number that is not finite.
    #[error("group {group}: field {field:?}: {reason}")]
    InvalidGroup {
        /// Index of the group in the batch, from 0.
        group: usize,
        /// The field, with an index if it is about a single number: `rewards[2]`.
        field: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// The objective cannot handle the batch, or returned a tensor of the wrong shape or dtype.
    #[error("{0}")]
    Unsupported(String),
    /// A row is not valid JSON.
    #[error("row {row}: not valid JSON: {reason}")]
    InvalidJson {
        /// Number of the row, from 1.
        row: usize,
        /// The parser's message, with line and column.
        reason: String,
    },
    /// A field of a row is missing, of the wrong type or out of range.
    #[error("row {row}: field {field:?}: {reason}")]
    InvalidRow {
        /// Number of the row, from 1.
        row: usize,
        /// The field, with indices if it is about a single value: `policy_logps[0][3]`.
        field: String,
        /// What was expected and what was found.
        reason: String,
    },
}

impl ObjectiveError {
    /// An error about part of a batch, for all of it: `count` groups come before the part.
    pub(crate) fn after_groups(mut self, count: usize) -> Self {
        if let Self::InvalidGroup { group, .. } = &mut self {
            *group += count;
        }
        self
    }
}

/// At most three of `known` that resemble `name`, nearest first.
pub(crate) fn nearest_names<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let lowered = name.to_lowercase();
    let mut scored: Vec<(f64, &str)> =
        known.into_iter().map(|other| (strsim::jaro_winkler(&lowered, other), other)).filter(|s| s.0 >= 0.75).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.into_iter().take(3).map(|(_, other)| other.to_owned()).collect()
}

fn did_you_mean(nearest: &[String]) -> String {
    if nearest.is_empty() { String::new() } else { format!("; did you mean {}?", nearest.join(" or ")) }
}

fn known_list(known: &[String]) -> String {
    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_names_are_listed_nearest_first() {
        let known = ["dpo", "nca", "nca_pair", "infonca"];
        assert_eq!(nearest_names("ncaa", known), ["nca", "nca_pair"]);
        assert_eq!(nearest_names("NCA", known)[0], "nca");
        assert!(nearest_names("zzzz", known).is_empty());
    }
}
