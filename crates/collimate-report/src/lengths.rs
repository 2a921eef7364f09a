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

    /// A sample of `num_responses` held-out responses as the policy scores them after `step` steps; without any yet.
    pub fn of_evaluation(step: usize, num_responses: usize) -> LengthSampler {
        let source = format!("held-out data, after step {step}");
        let sample = Self { source, num_tokens: Vec::new(), rewards: Vec::new(), implicit_rewards: Some(Vec::new()) };
        LengthSampler { sample, stride: stride(num_responses), num_seen: 0 }
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

/// A sample of an evaluation's responses, which are added prompt by prompt.
#[derive(Debug)]
pub struct LengthSampler {
    sample: LengthSample,
    stride: usize,
    num_seen: usize,
}

impl LengthSampler {
    /// Adds the responses of a prompt.
    pub fn add(&mut self, outcome: &GroupOutcome) {
        for (k, &num_tokens) in outcome.num_tokens.iter().enumerate() {
            if self.num_seen.is_multiple_of(self.stride) {
                self.sample.num_tokens.push(num_tokens);
                self.sample.rewards.push(outcome.rewards[k]);
                self.sample.implicit_rewards.get_or_insert_default().push(outcome.implicit_rewards[k]);
            }
            self.num_seen += 1;
        }
    }

    /// The sample of what was added.
    pub fn finish(self) -> LengthSample {
        self.sample
    }
}

/// Distance of two responses that are kept, so that at most [`MAX_RESPONSES`] are.
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
        let mut sampler = LengthSample::of_evaluation(7, 2400);
        (0..600).map(outcome).for_each(|outcome| sampler.add(&outcome));
        let sample = sampler.finish();
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
