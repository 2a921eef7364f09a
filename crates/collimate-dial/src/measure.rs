//! What is measured at each strength.

use collimate_collective::StopFlag;
use collimate_finished::{TrainedRun, seeded_sample};
use collimate_report::MetricsRow;
use collimate_text::with_one_token_an_image;
use collimate_train::{FinishedRun, Observer, Part, TrainError};

use crate::answers::{Answer, Divergence, Drawn, draw};

/// What to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct DialOptions {
    /// Strengths, finite and not below 0, in the order of the table.
    pub strengths: Vec<f64>,
    /// Held-out prompts to draw an answer to at each strength; fewer if there are no more.
    pub num_samples: usize,
    /// Most tokens of an answer; `None` for the recipe's `sample_max_new_tokens`.
    pub max_new_tokens: Option<usize>,
    /// Seed of the prompts and of the draws, which are the same at every strength.
    pub seed: u64,
}

/// A prompt to which answers are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// File and line.
    pub location: String,
    /// Its text, special tokens included.
    pub text: String,
}

/// The figures of one strength.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The strength.
    pub strength: f64,
    /// On all held-out data, under the names of `metrics.jsonl` without `eval_`.
    pub held_out: MetricsRow,
    /// An answer to each prompt.
    pub answers: Vec<Answer>,
    /// Of the answers from the model without the adapter; `None` without answers.
    pub divergence: Option<Divergence>,
}

/// All that was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Dial {
    /// The run's folder, as it was given.
    pub run: String,
    /// The run's objective.
    pub objective: String,
    /// Number of held-out prompts.
    pub num_held_out: usize,
    /// Whether the run's reference is the model without its adapter, which strength 0 is.
    pub starts_from_reference: bool,
    /// Most tokens of an answer.
    pub max_new_tokens: usize,
    /// Seed of prompts and draws.
    pub seed: u64,
    /// Prompts with answers.
    pub prompts: Vec<Prompt>,
    /// The strengths, in order.
    pub settings: Vec<Setting>,
}

/// Checks, before anything is opened, that a run has what is to be measured.
///
/// # Errors
/// The adapter has no strength (DoRA, copies of whole tensors), or the run has no held-out data.
pub fn check(run: &TrainedRun) -> Result<(), TrainError> {
    check_strength(run)?;
    run.check_held_out()
}

/// Checks that the adapter of a run has a strength.
///
/// # Errors
/// It has none; the error points into the recipe.
pub(crate) fn check_strength(run: &TrainedRun) -> Result<(), TrainError> {
    let Some((setting, problem)) = run.adapter.no_strength() else { return Ok(()) };
    // PEFT's name and ours.
    let key = if setting == "modules_to_save" { "lora_modules_to_save" } else { setting };
    Err(run.refused(key, problem))
}

/// Measures a run's adapter at each strength.
///
/// # Errors
/// As [`check`]; as `train` before its first step; a stop was requested; a figure is not finite.
pub fn dial(
    run: &TrainedRun,
    options: &DialOptions,
    stop: &StopFlag,
    observer: &mut dyn Observer,
) -> Result<Dial, TrainError> {
    check(run)?;
    run.open(stop, observer, |finished, observer| measured(run, options, finished, observer))
}

fn measured(
    run: &TrainedRun,
    options: &DialOptions,
    finished: &mut FinishedRun<'_>,
    observer: &mut dyn Observer,
) -> Result<Dial, TrainError> {
    let num_held_out = finished.len(Part::HeldOut);
    let all: Vec<usize> = (0..num_held_out).collect();
    finished.score_reference(Part::HeldOut, &all, observer)?;
    let chosen = seeded_sample(options.num_samples, num_held_out, options.seed);
    let pictures = finished.tokenizer().pictures().map(|pictures| pictures.length);
    let limit = options.max_new_tokens.unwrap_or(run.recipe.sample_max_new_tokens);
    let drawn = Drawn { indices: &chosen, max_new_tokens: pictures.unwrap_or(limit), seed: options.seed };
    let mut settings = Vec::with_capacity(options.strengths.len());
    for &strength in &options.strengths {
        observer.note(&format!("strength {strength}"));
        finished.session().set_adapter_strength(strength)?;
        // At 0 without the adapter: on the output layer even an adapter of zeros lengthens sums, and changes their last bits.
        let adapters = strength != 0.0;
        let held_out = finished.measure(adapters, observer)?;
        let (answers, divergence) = draw(&drawn, adapters, finished, observer)?;
        settings.push(Setting { strength, held_out, answers, divergence });
    }
    let prompts = chosen.iter().map(|index| prompt(finished, *index));
    Ok(Dial {
        run: run.folder.display().to_string(),
        objective: run.recipe.objective.name.clone(),
        num_held_out,
        starts_from_reference: run.starts_from_reference(),
        max_new_tokens: drawn.max_new_tokens,
        seed: options.seed,
        prompts: prompts.collect::<Result<_, _>>()?,
        settings,
    })
}

fn prompt(finished: &FinishedRun<'_>, index: usize) -> Result<Prompt, TrainError> {
    let group = finished.group(Part::HeldOut, index)?;
    let ids = with_one_token_an_image(&group.prompt_ids, &group.images);
    let text = finished.tokenizer().decode(&ids, false)?;
    Ok(Prompt { location: finished.location(Part::HeldOut, index)?, text })
}
