//! Which positions predict a response's tokens: log-probs are computed there and nowhere else.

use collimate_backend::TargetLogp;
use collimate_text::GroupBatch;

/// Which rows of the hidden states predict which tokens.
#[derive(Debug, Clone)]
pub(crate) struct Targets {
    /// Rows of the hidden states, [M].
    pub(crate) rows: Vec<u32>,
    /// The token that each row should predict, [M].
    pub(crate) tokens: Vec<u32>,
    /// How many of them belong to each response, by group.
    lengths: Vec<Vec<usize>>,
}

impl Targets {
    /// A response's first token is predicted by the prompt's last, each further one by the token before it.
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

    /// Splits [M] log-probs into groups and responses.
    pub(crate) fn nest(&self, values: &[TargetLogp]) -> Vec<Vec<Vec<f64>>> {
        let mut rest = values.iter().map(|value| value.logp);
        let mut take = |n: usize| rest.by_ref().take(n).collect::<Vec<f64>>();
        self.lengths.iter().map(|group| group.iter().map(|&n| take(n)).collect()).collect()
    }

    /// Repeats each response's coefficient for its tokens, [M].
    pub(crate) fn spread(&self, coefficients: &[Vec<f64>]) -> Vec<f32> {
        let lengths = self.lengths.iter().flatten();
        let pairs = coefficients.iter().flatten().zip(lengths);
        pairs.flat_map(|(&c, &n)| std::iter::repeat_n(c as f32, n)).collect()
    }
}
