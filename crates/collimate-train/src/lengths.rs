//! How long responses are against how good they are: `lengths.json` of a run's folder, for the report's plots.

use std::path::Path;

use collimate_data::Correlation;
use collimate_files::write_atomically;
use collimate_text::TokenizedGroup;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::metrics::GroupOutcome;
use crate::plain_file::read_text;

/// Name of the file in a run's folder.
const LENGTHS_FILE: &str = "lengths.json";

/// The largest such file, in bytes.
const MAX_LENGTHS_BYTES: u64 = 4 << 20;

/// Responses that are kept at most, spread evenly over the data.
const MOST_RESPONSES: usize = 1000;

/// Lengths and rewards of some responses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LengthSample {
    /// Which responses, in words.
    pub of: String,
    /// Tokens of each response, its end token included.
    pub num_tokens: Vec<usize>,
    /// The data's reward of each response.
    pub rewards: Vec<f64>,
    /// The implicit reward of each response; none where no model was asked.
    pub implicit_rewards: Option<Vec<f64>>,
}

impl LengthSample {
    /// Of training data, before any model sees it.
    pub(crate) fn of_data(groups: &[TokenizedGroup]) -> Self {
        let responses = || spread(groups.iter().flat_map(|group| &group.responses));
        Self {
            of: "training data".to_owned(),
            num_tokens: responses().map(|response| response.ids.len()).collect(),
            rewards: responses().map(|response| response.reward).collect(),
            implicit_rewards: None,
        }
    }

    /// Of held-out responses as a policy sees them after so many steps.
    pub(crate) fn of_evaluation(step: usize, outcomes: &[GroupOutcome]) -> Self {
        let floats =
            |values: fn(&GroupOutcome) -> &Vec<f64>| spread(outcomes.iter().flat_map(values)).copied().collect();
        Self {
            of: format!("held-out data, after step {step}"),
            num_tokens: spread(outcomes.iter().flat_map(|outcome| &outcome.num_tokens)).copied().collect(),
            rewards: floats(|outcome| &outcome.rewards),
            implicit_rewards: Some(floats(|outcome| &outcome.implicit_rewards)),
        }
    }

    /// Writes it into a run's folder, in place of an earlier one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write(&self, run: &Path) -> Result<(), TrainError> {
        let text = serde_json::to_string(self).unwrap_or_default() + "\n";
        Ok(write_atomically(&run.join(LENGTHS_FILE), text.as_bytes())?)
    }

    /// The one of a run's folder; none where there is none or the file is damaged, since it only illustrates.
    pub fn read(run: &Path) -> Option<Self> {
        serde_json::from_str(&read_text(&run.join(LENGTHS_FILE), MAX_LENGTHS_BYTES).ok()?).ok()
    }
}

/// Every n-th item, so that no more than [`MOST_RESPONSES`] are left.
fn spread<'a, T: 'a>(items: impl Iterator<Item = &'a T> + Clone) -> impl Iterator<Item = &'a T> {
    let stride = items.clone().count().div_ceil(MOST_RESPONSES).max(1);
    items.step_by(stride)
}

/// Pearson's correlation; none where one side is constant, there are fewer than two, or a value is not finite.
pub(crate) fn correlation(xs: &[f64], ys: &[f64]) -> Option<f64> {
    let mut found = Correlation::default();
    xs.iter().zip(ys).for_each(|(x, y)| found.add(*x, *y));
    found.pearson().filter(|found| found.is_finite())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0], Some(1.0))]
    #[case(&[1.0, 2.0, 3.0], &[0.0, -1.0, -2.0], Some(-1.0))]
    #[case(&[1.0, -1.0, 1.0, -1.0], &[1.0, 1.0, -1.0, -1.0], Some(0.0))]
    #[case(&[5.0, 5.0], &[1.0, 2.0], None)]
    #[case(&[], &[], None)]
    fn correlations(#[case] xs: &[f64], #[case] ys: &[f64], #[case] expected: Option<f64>) {
        let found = correlation(xs, ys);
        assert_eq!(found.is_some(), expected.is_some());
        assert!((found.unwrap_or(0.0) - expected.unwrap_or(0.0)).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn many_responses_are_spread_over_the_data() {
        let outcome = |number: usize| GroupOutcome {
            implicit_rewards: vec![number as f64; 4],
            rewards: vec![0.0; 4],
            policy_logps: vec![0.0; 4],
            reference_logps: None,
            num_tokens: vec![number; 4],
        };
        let outcomes: Vec<_> = (0..600).map(outcome).collect();
        let sample = LengthSample::of_evaluation(7, &outcomes);
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
