//! Lengths of responses with their rewards: `lengths.json` in a run's folder, for the report's scatter plots.

use std::path::Path;

use collimate_files::{WriteError, read_plain, write_atomically};
use serde::{Deserialize, Serialize};

use crate::metrics::GroupOutcome;

/// Name of the file in a run's folder.
const LENGTHS_FILE: &str = "lengths.json";

/// Size limit of the file, in bytes.
const MAX_LENGTHS_BYTES: u64 = 4 << 20;

/// Maximum number of responses to keep, spread evenly over the data.
const MAX_RESPONSES: usize = 1000;

/// Lengths and rewards of a sample of responses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LengthSample {
    /// Which responses, described in words.
    #[serde(rename = "of")]
    pub source: String,
    /// Tokens of each response, its end token included.
    pub num_tokens: Vec<usize>,
    /// The data's reward of each response.
    pub rewards: Vec<f64>,
    /// The implicit reward of each response; absent if no model has scored them.
    pub implicit_rewards: Option<Vec<f64>>,
}

impl LengthSample {
    /// A sample of the training data before any model sees it: tokens and reward of each of its `num_responses` responses.
    pub fn from_training_data(num_responses: usize, responses: impl Iterator<Item = (usize, f64)>) -> Self {
        let (num_tokens, rewards) = responses.step_by(stride(num_responses)).unzip();
        Self { source: "training data".to_owned(), num_tokens, rewards, implicit_rewards: None }
    }

    /// A sample of held-out responses as the policy scores them after `step` steps.
    pub fn from_evaluation(step: usize, outcomes: &[GroupOutcome]) -> Self {
        let floats = |values: fn(&GroupOutcome) -> &Vec<f64>| thin(outcomes.iter().flat_map(values)).copied().collect();
        Self {
            source: format!("held-out data, after step {step}"),
            num_tokens: thin(outcomes.iter().flat_map(|outcome| &outcome.num_tokens)).copied().collect(),
            rewards: floats(|outcome| &outcome.rewards),
            implicit_rewards: Some(floats(|outcome| &outcome.implicit_rewards)),
        }
    }

    /// Writes the sample into a run's folder, in place of an earlier one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, run: &Path) -> Result<(), WriteError> {
        let text = serde_json::to_string(self).unwrap_or_default() + "\n";
        write_atomically(&run.join(LENGTHS_FILE), text.as_bytes())
    }

    /// Reads the sample of a run's folder; `None` if the file is missing or damaged, since it is only an illustration.
    pub fn read(run: &Path) -> Option<Self> {
        serde_json::from_str(&read_plain(&run.join(LENGTHS_FILE), MAX_LENGTHS_BYTES).ok()?).ok()
    }
}

/// Every n-th item, so that at most [`MAX_RESPONSES`] remain.
fn thin<T>(items: impl Iterator<Item = T> + Clone) -> impl Iterator<Item = T> {
    let stride = stride(items.clone().count());
    items.step_by(stride)
}

fn stride(count: usize) -> usize {
    count.div_ceil(MAX_RESPONSES).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_responses_are_thinned_evenly() {
        let outcome = |number: usize| GroupOutcome {
            implicit_rewards: vec![number as f64; 4],
            rewards: vec![0.0; 4],
            policy_logps: vec![0.0; 4],
            reference_logps: None,
            num_tokens: vec![number; 4],
        };
        let outcomes: Vec<_> = (0..600).map(outcome).collect();
        let sample = LengthSample::from_evaluation(7, &outcomes);
        assert_eq!(sample.num_tokens.len(), 2400 / 3);
        assert_eq!((sample.num_tokens[0], sample.num_tokens[799]), (0, 599));
        assert_eq!(sample.implicit_rewards.as_ref().map(Vec::len), Some(800));
        let folder = tempfile::tempdir().expect("a temporary folder");
        sample.write(folder.path()).expect("a file");
        assert_eq!(LengthSample::read(folder.path()), Some(sample));
        std::fs::write(folder.path().join(LENGTHS_FILE), "{\"of\": ").expect("a file");
        assert_eq!(LengthSample::read(folder.path()), None);
    }
}
