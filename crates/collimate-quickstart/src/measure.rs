//! Held-out accuracy.

use collimate_data::{ChatInputs, Prompt};
use collimate_model::GenerateOptions;
use collimate_text::{TextTokenizer, encode_prompt};
use collimate_train::{Session, TrainError};
use serde::Serialize;

use crate::problems::Problem;
use crate::verifier::{is_correct, score};

/// Longest solution in tokens; worked solutions have at most 32, end token included.
pub const MAX_NEW_TOKENS: usize = 48;

/// Accuracies on held-out problems, each in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Accuracy {
    /// Share solved by greedy decoding.
    pub greedy: f64,
    /// Mean share solved by sampling at temperature 1.
    pub sampled: f64,
    /// Mean reward of the sampled solutions.
    pub reward: f64,
}

/// Solves every problem once greedily and `num_samples` times by sampling at temperature 1.
///
/// # Errors
/// The tokenizer or the model rejects a prompt.
pub fn measure(
    session: &mut dyn Session,
    tokenizer: &TextTokenizer,
    problems: &[Problem],
    num_samples: usize,
    seed: u64,
    progress: &mut (dyn FnMut(usize) + Send),
) -> Result<Accuracy, TrainError> {
    let greedy = solve(session, tokenizer, problems, 1, None, progress)?;
    let sampled = solve(session, tokenizer, problems, num_samples, Some(seed), progress)?;
    let share = |solutions: &[Vec<String>], value: &dyn Fn(&Problem, &str) -> f64| {
        let values = problems.iter().zip(solutions).flat_map(|(p, texts)| texts.iter().map(|t| value(p, t)));
        let values: Vec<f64> = values.collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    let correct = |problem: &Problem, text: &str| f64::from(u8::from(is_correct(problem, text)));
    Ok(Accuracy {
        greedy: share(&greedy, &correct),
        sampled: share(&sampled, &correct),
        reward: share(&sampled, &score),
    })
}

/// Solutions as text, by problem and sample: greedy without a seed, sampled at temperature 1 with one.
///
/// # Errors
/// The tokenizer or the model rejects a prompt.
pub fn solve(
    session: &mut dyn Session,
    tokenizer: &TextTokenizer,
    problems: &[Problem],
    num_samples: usize,
    seed: Option<u64>,
    progress: &mut (dyn FnMut(usize) + Send),
) -> Result<Vec<Vec<String>>, TrainError> {
    let prompts = problems
        .iter()
        .map(|problem| encode_prompt(&Prompt::Text(problem.prompt.clone()), &ChatInputs::default(), tokenizer));
    let prompts = prompts.collect::<Result<Vec<_>, _>>()?;
    let options = GenerateOptions {
        max_new_tokens: MAX_NEW_TOKENS,
        num_samples,
        temperature: if seed.is_some() { 1.0 } else { 0.0 },
        seed: seed.unwrap_or(0),
        ends: tokenizer.turn_ends().clone(),
        ..GenerateOptions::default()
    };
    let ids = session.generate(&prompts, &options, progress)?;
    let text = |ids: &Vec<u32>| Ok(tokenizer.answer(ids)?);
    ids.iter().map(|samples| samples.iter().map(text).collect()).collect()
}
