//! Answers that are drawn at a strength, and how far the model has moved by them.

use collimate_model::GenerateOptions;
use collimate_text::{EncodedPrompt, TokenizedGroup, TokenizedResponse};
use collimate_train::{FinishedRun, Observer, Part, TrainError};

/// Which prompts are answered, and how.
pub(crate) struct Drawn<'a> {
    /// Indices in the held-out data.
    pub(crate) indices: &'a [usize],
    pub(crate) max_new_tokens: usize,
    pub(crate) seed: u64,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Its text, without what ends it.
    pub text: String,
    /// Its tokens, with what ends it.
    pub num_tokens: usize,
    /// Whether it reached the most tokens before its end.
    pub is_cut: bool,
}

/// An estimate of the KL divergence of the model with its adapter from the model without it, in nats an answer.
///
/// For an answer y of T tokens that is drawn from π with temperature 1, `Σ_t (r_t − 1 − log r_t)` with
/// `r_t = π_0(y_t | x, y_<t) / π(y_t | x, y_<t)`: the estimator "k3" (J. Schulman, *Approximating KL Divergence*, 2020). Its mean
/// over draws is KL(π ‖ π_0) of the answer's tokens, it is never negative, and it is 0 where both models agree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Divergence {
    /// The mean over the answers.
    pub kl: f64,
    /// Its standard error; 0 for a single answer.
    pub error: f64,
}

impl Divergence {
    /// Of answers, given the log-probs of their tokens under π and under π_0; `None` without answers.
    pub fn of(policy: &[Vec<f64>], base: &[Vec<f64>]) -> Option<Self> {
        let of_token = |(policy, base): (&f64, &f64)| {
            let log_ratio = base - policy;
            log_ratio.exp_m1() - log_ratio
        };
        let of_answer = |(policy, base): (&Vec<f64>, &Vec<f64>)| policy.iter().zip(base).map(of_token).sum::<f64>();
        let each: Vec<f64> = policy.iter().zip(base).map(of_answer).collect();
        if each.is_empty() {
            return None;
        }
        let count = each.len() as f64;
        let kl = each.iter().sum::<f64>() / count;
        let squares: f64 = each.iter().map(|value| (value - kl).powi(2)).sum();
        let error = if each.len() > 1 { (squares / (count - 1.0) / count).sqrt() } else { 0.0 };
        Some(Self { kl, error })
    }
}

/// Draws an answer to each prompt with temperature 1 and scores it with the adapter and without.
pub(crate) fn draw(
    drawn: &Drawn<'_>,
    adapters: bool,
    finished: &mut FinishedRun<'_>,
    observer: &mut dyn Observer,
) -> Result<(Vec<Answer>, Option<Divergence>), TrainError> {
    if drawn.indices.is_empty() {
        return Ok((Vec::new(), None));
    }
    let groups = drawn.indices.iter().map(|index| finished.group(Part::HeldOut, *index));
    let groups = groups.collect::<Result<Vec<_>, _>>()?;
    observer.stage("answers", Some(groups.len() as u64));
    let ends = finished.tokenizer().turn_ends().clone();
    let (max_new_tokens, seed) = (drawn.max_new_tokens, drawn.seed);
    let options = GenerateOptions { max_new_tokens, temperature: 1.0, seed, ends, ..GenerateOptions::default() };
    let (mut answers, mut policy, mut base) = (Vec::new(), Vec::new(), Vec::new());
    for (number, groups) in groups.chunks(options.prompts_at_once()).enumerate() {
        let options = GenerateOptions { first_prompt: number * options.prompts_at_once(), ..options.clone() };
        let prompts: Vec<EncodedPrompt> = groups.iter().map(TokenizedGroup::prompt).collect();
        let texts = finished.session().generate(&prompts, &options, &mut |_| {});
        let texts = texts.map_err(|error| {
            let place = |prompt: usize| finished.location(Part::HeldOut, drawn.indices[options.first_prompt + prompt]);
            TrainError::from(error).at_prompt(|prompt| place(prompt).unwrap_or_default())
        })?;
        let answered: Vec<TokenizedGroup> =
            groups.iter().zip(texts).map(|(group, texts)| answered(group, texts)).collect();
        for group in &answered {
            for response in &group.responses {
                let (text, num_tokens) = (finished.tokenizer().answer(&response.ids)?, response.ids.len());
                let is_cut = !options.ends.is_reached(&response.ids) && num_tokens >= max_new_tokens;
                answers.push(Answer { text, num_tokens, is_cut });
            }
        }
        let without = finished.score(&answered, false)?;
        // Without the adapter both are the same.
        policy.extend(if adapters { finished.score(&answered, true)? } else { without.clone() }.into_iter().flatten());
        base.extend(without.into_iter().flatten());
        observer.advance(groups.len() as u64);
    }
    observer.finish();
    Ok((answers, Divergence::of(&policy, &base)))
}

/// A prompt with what was drawn in place of its responses.
fn answered(group: &TokenizedGroup, drawn: Vec<Vec<u32>>) -> TokenizedGroup {
    let responses = drawn.into_iter().map(|ids| TokenizedResponse { ids, reward: 0.0, num_cut: 0 });
    TokenizedGroup { responses: responses.collect(), ..group.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_is_the_formula_and_zero_where_both_agree() {
        let policy = [vec![-1.0, -2.0], vec![-0.5]];
        let base = [vec![-1.5, -2.0], vec![-0.25]];
        let each = [(-0.5f64).exp() - 1.0 + 0.5, 0.25f64.exp() - 1.0 - 0.25];
        let found = Divergence::of(&policy, &base).expect("answers");
        let mean = (each[0] + each[1]) / 2.0;
        assert!((found.kl - mean).abs() < 1e-15, "{found:?}");
        // Two values lie half their distance from their mean.
        assert!((found.error - (each[0] - each[1]).abs() / 2.0).abs() < 1e-15, "{found:?}");
        assert_eq!(Divergence::of(&policy, &policy), Some(Divergence { kl: 0.0, error: 0.0 }));
        assert_eq!(Divergence::of(&[], &[]), None);
    }

    #[test]
    fn the_estimate_is_the_divergence_on_average() {
        // Over all tokens with their probabilities, not over draws.
        let (policy, base) = ([0.7f64, 0.2, 0.1], [0.5f64, 0.25, 0.25]);
        let exact: f64 = policy.iter().zip(&base).map(|(p, q)| p * (p / q).ln()).sum();
        let estimate = |token: usize| {
            let found = Divergence::of(&[vec![policy[token].ln()]], &[vec![base[token].ln()]]);
            found.expect("an answer").kl
        };
        let mean: f64 = (0..3).map(|token| policy[token] * estimate(token)).sum();
        assert!((mean - exact).abs() < 1e-15, "{mean} {exact}");
    }
}
