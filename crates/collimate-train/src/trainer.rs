//! The loop: score, ask the objective for the c_k, go back, step.

mod run;
mod step;

use std::path::PathBuf;
use std::time::Instant;

use collimate_data::TextTokenizer;
use collimate_model::{LoraConfig, LoraTargets, ModelConfig, StorageDtype, copy_side_files};
use collimate_objective::registry;

use crate::card::{CardInput, render_card};
use crate::error::TrainError;
use crate::evaluation::HeldOut;
use crate::metrics::MetricsRow;
use crate::prepare::{PreparedData, prepare};
use crate::progress::Observer;
use crate::recipe::Recipe;
use crate::reference::Reference;
use crate::report::{read_results, write_report};
use crate::session::{Session, SessionOptions, Training, open_session};
use run::Run;

/// What a finished run leaves to say.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainSummary {
    /// Folder with the final model or adapter, metrics, card and report.
    pub output_dir: PathBuf,
    /// Optimizer steps of the run.
    pub num_steps: usize,
    /// Prompts in the data.
    pub num_groups: usize,
    /// The last step's figures.
    pub last: Option<MetricsRow>,
    /// Evaluations on held-out data at the start and at the end.
    pub evaluations: Vec<MetricsRow>,
    /// Steps left out because a figure was not finite.
    pub num_skipped_steps: usize,
    /// Wall-clock time.
    pub seconds: f64,
}

/// Trains as the recipe says; with `resume` goes on from the newest checkpoint of the output folder.
///
/// # Errors
/// Anything wrong with recipe, data, model or folder before any compute; a failed self-check; a figure that is not
/// finite. What was written before stays.
pub fn train(recipe: &Recipe, observer: &mut dyn Observer, resume: bool) -> Result<TrainSummary, TrainError> {
    let begun = Instant::now();
    let objective = registry::build(&recipe.objective.name, &recipe.objective.params)?;
    let model = recipe.model_name_or_path.clone().ok_or_else(|| missing("model_name_or_path"))?;
    let data_path = recipe.data.clone().ok_or_else(|| missing("data"))?;
    set_threads(recipe.num_threads);
    let tokenizer = TextTokenizer::from_model_dir(&model)?;
    let needs = objective.needs();
    let data = prepare(recipe, &data_path, &tokenizer, needs.min_responses, observer)?;
    check_responses(recipe, &data_path, &data, needs.max_responses)?;
    let held_out = match &recipe.eval_data {
        Some(path) => Some(prepare(recipe, path, &tokenizer, needs.min_responses, observer)?),
        None => None,
    };
    let options = session_options(recipe, model.clone())?;
    let checkpoint = run::prepare_folder(recipe, resume)?;
    if resume && checkpoint.is_none() {
        observer.note(&format!("{}: no checkpoint to resume from; starting at step 1", recipe.output_dir.display()));
    }
    for note in data.notes.iter().chain(held_out.iter().flat_map(|h| &h.notes)) {
        observer.note(note);
    }
    let mut session = open_session(&options)?;
    describe_model(session.as_ref(), recipe, observer);

    let held_out = held_out.map(|data| HeldOut { groups: data.groups, reference: None });
    let mut run = Run::new(recipe, objective.as_ref(), data.groups, held_out)?;
    if needs.reference {
        let reference = Reference::of(recipe);
        observer.note(&reference.describe(recipe)?);
        run.score_reference(&reference, session.as_mut(), &options, observer)?;
    }
    let outcome = run.all_steps(session.as_mut(), checkpoint, observer)?;
    let summary = TrainSummary { seconds: begun.elapsed().as_secs_f64(), ..outcome };
    finish(recipe, session.as_ref(), &model, &summary)?;
    Ok(summary)
}

/// Writes the final model, its tokenizer, the model card and the report.
fn finish(
    recipe: &Recipe,
    session: &dyn Session,
    model: &std::path::Path,
    summary: &TrainSummary,
) -> Result<(), TrainError> {
    let out = &recipe.output_dir;
    session.save_model(out, storage_dtype(recipe, session.config()))?;
    copy_side_files(model, out)?;
    write_documents(recipe, summary)
}

/// Writes the model card and the report of a finished run, from its metrics and its `results.json` if it has one.
///
/// # Errors
/// A file of the run cannot be read or written.
pub fn write_documents(recipe: &Recipe, summary: &TrainSummary) -> Result<(), TrainError> {
    let out = &recipe.output_dir;
    let results = read_results(out)?;
    let card = render_card(&CardInput {
        recipe,
        paper: registry::find(&recipe.objective.name)?.paper,
        num_groups: summary.num_groups,
        num_steps: summary.num_steps,
        last: summary.last.as_ref(),
        results: results.as_ref(),
    });
    let path = out.join("README.md");
    std::fs::write(&path, card).map_err(|source| TrainError::io(&path, source))?;
    write_report(out)?;
    Ok(())
}

fn missing(key: &'static str) -> TrainError {
    TrainError::RecipeValue { key, message: "is needed to train".to_owned() }
}

fn check_responses(
    recipe: &Recipe,
    path: &std::path::Path,
    data: &PreparedData,
    limit: Option<usize>,
) -> Result<(), TrainError> {
    let Some(limit) = limit else { return Ok(()) };
    match data.groups.iter().find(|group| group.responses.len() > limit) {
        None => Ok(()),
        Some(group) => Err(TrainError::TooManyResponses {
            path: path.to_owned(),
            line: group.line,
            found: group.responses.len(),
            limit,
            objective: recipe.objective.name.clone(),
        }),
    }
}

fn session_options(recipe: &Recipe, model: PathBuf) -> Result<SessionOptions, TrainError> {
    let training = if recipe.use_peft {
        let targets = match recipe.lora_target_modules.is_all_linear() {
            true => LoraTargets::AllLinear,
            false => LoraTargets::Names(recipe.lora_target_modules.names().to_vec()),
        };
        let mut config = LoraConfig::new(recipe.lora_r, recipe.lora_alpha, targets);
        config.dropout = recipe.lora_dropout;
        config.target_modules(&ModelConfig::from_dir(&model)?)?;
        Training::Lora(config)
    } else {
        Training::Full
    };
    Ok(SessionOptions {
        model,
        adapter: recipe.adapter.clone(),
        backend: recipe.backend.clone().unwrap_or_else(|| collimate_backend::BACKENDS[0].name.to_owned()),
        device: recipe.device,
        training,
        seed: recipe.seed,
    })
}

/// The type that the final weights are stored in: the recipe's, or the one that the base model has.
fn storage_dtype(recipe: &Recipe, config: &ModelConfig) -> StorageDtype {
    let named = recipe.torch_dtype.as_deref().filter(|name| *name != "auto").or(config.dtype.as_deref());
    named.and_then(StorageDtype::from_name).unwrap_or(StorageDtype::F32)
}

fn describe_model(session: &dyn Session, recipe: &Recipe, observer: &mut dyn Observer) {
    let summary = session.summary();
    let kind = if recipe.use_peft { "LoRA" } else { "full fine-tuning" };
    observer.note(&format!(
        "model: {}, {} parameters, {} trained ({:.2} %, {kind}), computed in float32",
        summary.architecture,
        grouped(summary.num_parameters),
        grouped(summary.num_trainable),
        100.0 * summary.num_trainable as f64 / summary.num_parameters as f64,
    ));
}

/// A count with its thousands apart: 134,515,008.
fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Sets the size of the pool of threads once; a later run in one process keeps the first's.
fn set_threads(num_threads: usize) {
    if num_threads > 0 {
        let _ = rayon::ThreadPoolBuilder::new().num_threads(num_threads).build_global();
    }
}
