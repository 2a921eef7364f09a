//! The positions that predict response tokens, the only ones whose log-probs are computed.

use collimate_backend::TargetLogp;
use collimate_text::GroupBatch;

/// The rows of the hidden states that predict response tokens, M in all.
#[derive(Debug, Clone)]
pub(crate) struct Targets {
    /// Their indices, [M].
    pub(crate) rows: Vec<u32>,
    /// The token each of them predicts, [M].
    pub(crate) tokens: Vec<u32>,
    /// Number of tokens of each response, by group.
    lengths: Vec<Vec<usize>>,
}

impl Targets {
    /// A response's first token is predicted at the prompt's last token, each further one at the token before it.
    pub(crate) fn new(batch: &GroupBatch) -> Self {
        let mut targets = Self { rows: Vec::new(), tokens: Vec::new(), lengths: Vec::new() };
        for group in &batch.groups {
            for response in group {
                let predictors = std::iter::once(response.prompt.end - 1).chain(response.tokens.clone());
                targets.rows.extend(predictors.take(response.tokens.len()).map(|row| row as u32));
                targets.tokens.extend(&batch.tokens[response.tokens.clone()]);
            }
            targets.lengths.push(group.iter().map(|r| r.tokens.len()).collect());
        }
        targets
    }

    /// Splits log-probs [M] by group and response.
    pub(crate) fn nest(&self, values: &[TargetLogp]) -> Vec<Vec<Vec<f64>>> {
        let mut rest = values.iter().map(|value| value.logp);
        let mut take = |n: usize| rest.by_ref().take(n).collect::<Vec<f64>>();
        self.lengths.iter().map(|group| group.iter().map(|&n| take(n)).collect()).collect()
    }

    /// Repeats each response's coefficient for each of its tokens, [M].
    pub(crate) fn spread(&self, coefficients: &[Vec<f64>]) -> Vec<f32> {
        let lengths = self.lengths.iter().flatten();
        let pairs = coefficients.iter().flatten().zip(lengths);
        pairs.flat_map(|(&c, &n)| std::iter::repeat_n(c as f32, n)).collect()
    }
}
