//! Held-out accuracy.

use collimate_data::{ChatInputs, Prompt};
use collimate_model::GenerateOptions;
use collimate_text::{TextTokenizer, encode_prompt};
use collimate_train::{Session, TrainError};
use serde::Serialize;
use serde_json::Value;

use crate::problems::Problem;
use crate::task::Question;
use crate::verifier::{is_correct, score};

/// Accuracies on held-out questions, each in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Accuracy {
    /// Share answered correctly by greedy decoding.
    pub greedy: f64,
    /// Mean share answered correctly by sampling at temperature 1.
    pub sampled: f64,
    /// Mean reward of the sampled answers.
    pub reward: f64,
}

impl Question for Problem {
    const NAME: &'static str = "problem";

    /// Worked solutions have at most 32, end token included.
    const MAX_NEW_TOKENS: usize = 48;

    fn prompt(&self) -> Prompt {
        Prompt::Text(self.prompt.clone())
    }

    fn row(&self) -> Value {
        self.prompt.as_str().into()
    }

    fn score(&self, answer: &str) -> f64 {
        score(self, answer)
    }

    fn is_correct(&self, answer: &str) -> bool {
        is_correct(self, answer)
    }
}

/// Answers every question once greedily and `num_samples` times by sampling at temperature 1.
///
/// # Errors
/// The tokenizer or the model rejects a prompt.
pub fn measure<Q: Question>(
    session: &mut dyn Session,
    tokenizer: &TextTokenizer,
    questions: &[Q],
    num_samples: usize,
    seed: u64,
    progress: &mut (dyn FnMut(usize) + Send),
) -> Result<Accuracy, TrainError> {
    let greedy = solve(session, tokenizer, questions, 1, None, progress)?;
    let sampled = solve(session, tokenizer, questions, num_samples, Some(seed), progress)?;
    let share = |answers: &[Vec<String>], value: &dyn Fn(&Q, &str) -> f64| {
        let values = questions.iter().zip(answers).flat_map(|(q, texts)| texts.iter().map(|t| value(q, t)));
        let values: Vec<f64> = values.collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    let correct = |question: &Q, text: &str| f64::from(u8::from(question.is_correct(text)));
    Ok(Accuracy {
        greedy: share(&greedy, &correct),
        sampled: share(&sampled, &correct),
        reward: share(&sampled, &Q::score),
    })
}

/// Answers as text, by question and sample: greedy without a seed, sampled at temperature 1 with one.
///
/// # Errors
/// The tokenizer or the model rejects a prompt.
pub fn solve<Q: Question>(
    session: &mut dyn Session,
    tokenizer: &TextTokenizer,
    questions: &[Q],
    num_samples: usize,
    seed: Option<u64>,
    progress: &mut (dyn FnMut(usize) + Send),
) -> Result<Vec<Vec<String>>, TrainError> {
    let prompts = questions.iter().map(|question| encode_prompt(&question.prompt(), &ChatInputs::default(), tokenizer));
    let prompts = prompts.collect::<Result<Vec<_>, _>>()?;
    let options = GenerateOptions {
        max_new_tokens: Q::MAX_NEW_TOKENS,
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
