//! The gradients, one at a time, and their products.

use std::time::Instant;

use collimate_collective::StopFlag;
use collimate_finished::{TrainedRun, seeded_sample};
use collimate_objective::registry;
use collimate_progress::format_seconds;
use collimate_session::HostGradient;
use collimate_text::{TokenizedGroup, with_one_token_an_image};
use collimate_train::{FinishedRun, Observer, Part, TrainError};
use thiserror::Error;

use crate::answer::AnswerChoice;

/// Groups after which the time of the others is said.
const TIMED_GROUPS: usize = 3;
/// Characters of a prompt's or a response's text that are shown.
const EXCERPT: usize = 120;

/// Why answers could not be explained.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// The run cannot be opened or computed with.
    #[error(transparent)]
    Train(#[from] TrainError),

    /// There is no such answer.
    #[error("--answer {choice}: {problem}")]
    Answer {
        /// What was asked for.
        choice: AnswerChoice,
        /// What there is.
        problem: String,
    },
}

/// What to explain.
#[derive(Debug, Clone, PartialEq)]
pub struct ExplainOptions {
    /// The answers, at least one.
    pub answers: Vec<AnswerChoice>,
    /// Training prompts to look at, drawn by the seed; `None` for all.
    pub limit: Option<usize>,
    /// Seed of what is drawn.
    pub seed: u64,
    /// Prompts to show with their text in either direction.
    pub num_shown: usize,
}

/// A training prompt's part in an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    /// File and line.
    pub location: String,
    /// What a plain gradient step on this prompt alone adds to the answer's log-prob, to first order, by learning rate. In nats.
    pub score: f64,
    /// The score by the lengths of both gradients, −1 to 1; 0 if one of them is zero.
    pub cosine: f64,
    /// The prompt's loss.
    pub loss: f64,
    /// The beginning of its prompt and of its best response; empty unless it is shown.
    pub excerpt: [String; 2],
}

/// An answer and what moves it.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// File and line of its prompt.
    pub location: String,
    /// Index of the response in its row, from 0.
    pub response: usize,
    /// Its reward.
    pub reward: f64,
    /// Its log-prob in nats.
    pub logp: f64,
    /// Its prompt's text, special tokens included.
    pub prompt: String,
    /// Its own text.
    pub text: String,
    /// The training prompts by falling score. The first and the last have excerpts.
    pub moved: Vec<Moved>,
}

/// All answers with what moves them.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The run's folder, as it was given.
    pub run: String,
    /// The run's objective.
    pub objective: String,
    /// Training prompts of the run.
    pub num_training: usize,
    /// Training prompts that were looked at.
    pub num_looked_at: usize,
    /// Seed by which they were drawn.
    pub seed: u64,
    /// Prompts that are shown in either direction.
    pub num_shown: usize,
    /// The answers, in the order in which they were asked for.
    pub answers: Vec<Explained>,
}

/// Checks, before anything is opened, that each prompt of a run has a gradient of its own and that it has held-out data.
///
/// # Errors
/// The objective compares prompts with each other; or nothing is held out.
pub fn check(run: &TrainedRun) -> Result<(), TrainError> {
    let spec = &run.recipe.objective;
    let needs = registry::build(&spec.name, &spec.params)?.needs();
    if needs.couples_batch || needs.mismatched_pairs {
        let problem =
            format!("\"{}\" compares the prompts of a step, so that none has a gradient of its own", spec.name);
        return Err(run.refused("objective", &problem));
    }
    run.check_held_out()
}

/// Finds what moves each answer. Whatever is drawn is the same for all answers.
///
/// # Errors
/// As [`check`]; an answer that is not there; as `train` before its first step; a stop was requested; a figure is not finite.
pub fn explain(
    run: &TrainedRun,
    options: &ExplainOptions,
    stop: &StopFlag,
    observer: &mut dyn Observer,
) -> Result<Explanation, ExplainError> {
    check(run)?;
    run.open(stop, observer, |finished, observer| explained(run, options, finished, observer))
}

/// An answer with its gradient.
struct Target {
    found: Explained,
    gradient: HostGradient,
    norm: f64,
}

fn explained(
    run: &TrainedRun,
    options: &ExplainOptions,
    finished: &mut FinishedRun<'_>,
    observer: &mut dyn Observer,
) -> Result<Explanation, ExplainError> {
    let chosen = options.answers.iter().map(|choice| choose(*choice, finished)).collect::<Result<Vec<_>, _>>()?;
    let targets = chosen.into_iter().map(|(row, group, response)| target(row, &group, response, finished));
    let mut targets = targets.collect::<Result<Vec<_>, _>>()?;
    let num_training = finished.len(Part::Training);
    let looked_at = seeded_sample(options.limit.unwrap_or(num_training), num_training, options.seed);
    finished.score_reference(Part::Training, &looked_at, observer)?;
    observer.stage("gradients", Some(looked_at.len() as u64));
    let begun = Instant::now();
    let mut places: Vec<Vec<(usize, Moved)>> = vec![Vec::with_capacity(looked_at.len()); targets.len()];
    for (number, &index) in looked_at.iter().enumerate() {
        let loss = finished.loss_gradient(index)?;
        let gradient = finished.session().take_gradient();
        let (norm, location) = (gradient.norm(), finished.location(Part::Training, index)?);
        for (target, moved) in targets.iter().zip(&mut places) {
            let product = target.gradient.dot(&gradient);
            let lengths = norm * target.norm;
            let cosine = if lengths > 0.0 { -product / lengths } else { 0.0 };
            let (location, excerpt) = (location.clone(), Default::default());
            // Not −0, where the product is 0.
            moved.push((index, Moved { location, score: 0.0 - product, cosine, loss, excerpt }));
        }
        observer.advance(1);
        if number + 1 == TIMED_GROUPS && looked_at.len() > TIMED_GROUPS {
            let each = begun.elapsed().as_secs_f64() / TIMED_GROUPS as f64;
            let left = (looked_at.len() - TIMED_GROUPS) as f64 * each;
            let all = looked_at.len();
            observer.note(&format!("{all} training prompts, about {} (--limit takes fewer)", format_seconds(left)));
        }
    }
    observer.finish();
    for (target, moved) in targets.iter_mut().zip(places) {
        target.found.moved = ranked(moved, options.num_shown, finished)?;
    }
    Ok(Explanation {
        run: run.folder.display().to_string(),
        objective: run.recipe.objective.name.clone(),
        num_training,
        num_looked_at: looked_at.len(),
        seed: options.seed,
        num_shown: options.num_shown,
        answers: targets.into_iter().map(|target| target.found).collect(),
    })
}

/// The group and the response that were asked for.
fn choose(choice: AnswerChoice, finished: &FinishedRun<'_>) -> Result<(usize, TokenizedGroup, usize), ExplainError> {
    let refused = |problem: String| ExplainError::Answer { choice, problem };
    let count = finished.len(Part::HeldOut);
    if choice.row >= count {
        return Err(refused(format!("the run has {count} held-out prompts, counted from 0")));
    }
    let group = finished.group(Part::HeldOut, choice.row)?;
    let count = group.responses.len();
    let best = |best: usize, k: usize| if group.responses[k].reward > group.responses[best].reward { k } else { best };
    let response = choice.response.unwrap_or_else(|| (0..count).fold(0, best));
    if response >= count {
        let location = finished.location(Part::HeldOut, choice.row)?;
        return Err(refused(format!("{location} has {count} responses, counted from 0")));
    }
    Ok((choice.row, group, response))
}

/// The gradient of an answer's log-prob.
fn target(
    row: usize,
    group: &TokenizedGroup,
    response: usize,
    finished: &mut FinishedRun<'_>,
) -> Result<Target, ExplainError> {
    let answer = group.responses[response].clone();
    let alone = [TokenizedGroup { responses: vec![answer.clone()], ..group.clone() }];
    let logp: f64 = finished.score(&alone, true)?.iter().flatten().flatten().sum();
    finished.backward(&alone, &[vec![1.0]])?;
    let gradient = finished.session().take_gradient();
    let ids = with_one_token_an_image(&group.prompt_ids, &group.images);
    let tokenizer = finished.tokenizer();
    let prompt = tokenizer.decode(&ids, false).map_err(TrainError::from)?;
    let text = tokenizer.answer(&answer.ids).map_err(TrainError::from)?;
    let location = finished.location(Part::HeldOut, row)?;
    let found = Explained { location, response, reward: answer.reward, logp, prompt, text, moved: Vec::new() };
    Ok(Target { found, norm: gradient.norm(), gradient })
}

/// The prompts by falling score, those at both ends with their texts.
fn ranked(
    mut moved: Vec<(usize, Moved)>,
    num_shown: usize,
    finished: &FinishedRun<'_>,
) -> Result<Vec<Moved>, TrainError> {
    moved.sort_by(|a, b| b.1.score.total_cmp(&a.1.score));
    let count = moved.len();
    for (rank, (index, moved)) in moved.iter_mut().enumerate() {
        if rank < num_shown || rank + num_shown >= count {
            moved.excerpt = excerpt(&finished.group(Part::Training, *index)?, finished)?;
        }
    }
    Ok(moved.into_iter().map(|(_, moved)| moved).collect())
}

/// The beginning of a prompt, without special tokens, and of its best response.
fn excerpt(group: &TokenizedGroup, finished: &FinishedRun<'_>) -> Result<[String; 2], TrainError> {
    let best = group.responses.iter().rev().max_by(|a, b| a.reward.total_cmp(&b.reward));
    let ids = with_one_token_an_image(&group.prompt_ids, &group.images);
    let prompt = finished.tokenizer().decode(&ids, true)?;
    let best = best.map(|response| finished.tokenizer().answer(&response.ids)).transpose()?.unwrap_or_default();
    Ok([prompt, best].map(|text| beginning(&text)))
}

/// The beginning of a text on one line.
fn beginning(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_one_line_of_bounded_length() {
        assert_eq!(beginning("a\n  b\tc"), "a b c");
        let long = beginning(&"é".repeat(EXCERPT + 1));
        assert_eq!(long.chars().count(), EXCERPT + 1);
        assert!(long.ends_with('…'));
    }
}
