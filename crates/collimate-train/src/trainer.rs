//! The loop: score, ask the objective for the c_k, go back, step.

mod nonfinite;
mod plan;
mod record;
mod run;
mod step;
mod summary;

use std::path::{Path, PathBuf};
use std::time::Instant;

use collimate_backend::{BackendError, check_dtype};
use collimate_files::{FolderLock, read_text, recover_folders, remove_leftovers, write_atomically};
use collimate_hf::{LoraConfig, LoraTargets, ModelConfig, StorageDtype, copy_side_files};
use collimate_objective::{Needs, registry};
use collimate_recipe::{DataSources, Recipe};
use collimate_report::{CardInput, LengthSample, MetricsRow, RunFiles, license_of, render_card, write_report_from};
use collimate_text::{TextTokenizer, TokenizedGroup};

use crate::error::TrainError;
use crate::evaluation::HeldOut;
use crate::load_recipe::{backend_name, compute_dtype};
use crate::packs::MemoryPlan;
use crate::prepare::{DataRows, PreparedData};
use crate::progress::Observer;
use crate::reference::{Reference, model_hash};
use crate::samples::SamplePrompts;
use crate::session::{Session, SessionOptions, Training, open_session};
use crate::stop::RunControl;
use crate::threads::{join, set_threads};
use run::Run;

pub use plan::{
    Plan, PlanOptions, PlannedData, PlannedDisk, PlannedMemory, PlannedModel, PlannedSteps, PlannedTime, TokenBasis,
    plan,
};

/// The largest card of a base model that is looked into for its licence, in bytes.
const MAX_CARD_BYTES: u64 = 4 << 20;

/// What a finished run leaves to say.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainSummary {
    /// Folder with the final model or adapter, metrics, card and report.
    pub output_dir: PathBuf,
    /// Optimizer steps of the run.
    pub num_steps: usize,
    /// Prompts in the data.
    pub num_groups: usize,
    /// BLAKE3 of the base model's weights and settings, in hexadecimal; none where the base could not be read.
    pub base_hash: Option<String>,
    /// The first recorded step's figures.
    pub first: Option<MetricsRow>,
    /// The last step's figures.
    pub last: Option<MetricsRow>,
    /// Evaluations on held-out data at the start and at the end.
    pub evaluations: Vec<MetricsRow>,
    /// Steps left out because a figure was not finite.
    pub num_skipped_steps: usize,
    /// What the alarm of the chosen responses' likelihood last said, if it spoke.
    pub chosen_alarm: Option<String>,
    /// Wall-clock time.
    pub seconds: f64,
}

/// Trains as the recipe says; to resume, goes on from the newest sound checkpoint of the output folder.
///
/// # Errors
/// Anything wrong with recipe, data, model or folder before any compute; another run in the folder; a failed self-check;
/// a figure that is not finite; a device without memory left; a stop that was asked for. What was written before stays.
pub fn train(recipe: &Recipe, observer: &mut dyn Observer, control: &RunControl) -> Result<TrainSummary, TrainError> {
    let mut lock = FolderLock::acquire(&recipe.output_dir)?;
    train_in(&mut lock, recipe, observer, control)
}

/// [`train`] in a folder that is locked already: the recipe's `output_dir`.
///
/// # Errors
/// As [`train`].
pub fn train_in(
    lock: &mut FolderLock,
    recipe: &Recipe,
    observer: &mut dyn Observer,
    control: &RunControl,
) -> Result<TrainSummary, TrainError> {
    collimate_backend::guarded(|| whole_run(lock, recipe, observer, control))?
}

fn whole_run(
    lock: &mut FolderLock,
    recipe: &Recipe,
    observer: &mut dyn Observer,
    control: &RunControl,
) -> Result<TrainSummary, TrainError> {
    let begun = Instant::now();
    let objective = registry::build(&recipe.objective.name, &recipe.objective.params)?;
    let model = recipe.model_name_or_path.clone().ok_or_else(|| missing("model_name_or_path"))?;
    let sources = recipe.data.clone().ok_or_else(|| missing("data"))?;
    set_threads(recipe.num_threads);
    let tokenizer = TextTokenizer::from_model_dir(&model)?;
    let needs = objective.needs();
    let options = session_options(recipe, model.clone())?;
    if control.resume {
        recover_folders(&recipe.output_dir)?;
    }
    let checkpoint = run::find_checkpoint(recipe, control.resume, observer)?;
    let files = read_files(recipe, &sources, needs.min_responses, observer)?;
    // The model is opened on this thread while another makes tokens and hashes the reference's weights.
    let (prepared, session) = std::thread::scope(|scope| {
        let observer = &mut *observer;
        let preparation = scope.spawn(|| prepare_all(recipe, files, &tokenizer, &needs, &options, observer));
        let session = open_session(&options);
        (join(preparation), session)
    });
    let prepared = prepared?;
    let out = &recipe.output_dir;
    remove_leftovers(out)?;
    lock.keep_folder();
    if control.resume && checkpoint.is_none() {
        observer.note(&format!("{}: no checkpoint to resume from; starting at step 1", out.display()));
    }
    for note in prepared.data.notes.iter().chain(prepared.held_out.iter().flat_map(|h| &h.notes)) {
        observer.note(note);
    }
    let mut session = session?;
    check_experts(recipe, session.config())?;

    let held_out = prepared.held_out.map(|data| HeldOut { groups: data.groups, files: data.files, reference: None });
    let memory = memory_plan(recipe, session.as_ref(), &options)?;
    memory.check(&prepared.data.files, &prepared.data.groups)?;
    if let Some(held_out) = &held_out {
        memory.check(&held_out.files, &held_out.groups)?;
    }
    let mut run = Run::new(recipe, objective.as_ref(), (prepared.data.groups, prepared.data.files), held_out, memory);
    let reference = prepared.reference.transpose()?;
    let fingerprint = reference.as_ref().map(Reference::fingerprint);
    let base_hash = reference.as_ref().and_then(|reference| reference.hash_of(&model));
    run.accept(checkpoint.as_ref(), fingerprint.as_deref())?;
    tell_start(&run, session.as_ref(), observer)?;
    let samples = SamplePrompts::new(recipe, &tokenizer, run.shown());
    if run.held_out().is_none() {
        length_sample(&run.groups).write(out)?;
    }
    if let Some(mut reference) = reference {
        reference.notes().iter().for_each(|note| observer.note(note));
        run.score_reference(&mut reference, session.as_mut(), (&control.stop, &mut *observer))?;
    }
    samples.before(out, (session.as_mut(), control.resume), observer)?;
    let outcome = run.all_steps(session.as_mut(), checkpoint, fingerprint, (&control.stop, &mut *observer))?;
    samples.after(out, session.as_mut(), observer)?;
    // A base that is no longer there costs the card its hash, not the run its card.
    let base_hash = base_hash.or_else(|| model_hash(&model).ok());
    let summary = TrainSummary { base_hash, seconds: begun.elapsed().as_secs_f64(), ..outcome };
    finish(recipe, session.as_ref(), &model, &summary)?;
    Ok(summary)
}

/// What the run's passes may use of the device's memory.
fn memory_plan(recipe: &Recipe, session: &dyn Session, options: &SessionOptions) -> Result<MemoryPlan, TrainError> {
    let device = collimate_backend::device_memory(&options.backend, options.device)?;
    MemoryPlan::new(recipe.memory_budget.bytes(device), session.memory_costs(), recipe.share_prompt)
}

/// What a run needs beside the policy.
struct Prepared {
    data: PreparedData,
    held_out: Option<PreparedData>,
    /// None where the objective needs none. Its errors are told after those of the model that it may be.
    reference: Option<Result<Reference, TrainError>>,
}

/// The rows to train on and, where there are any, those to evaluate on.
fn read_files(
    recipe: &Recipe,
    data: &DataSources,
    min_responses: usize,
    observer: &mut dyn Observer,
) -> Result<(DataRows, Option<DataRows>), TrainError> {
    let mut rows = DataRows::read(recipe, data, min_responses, observer)?;
    let eval = match &recipe.eval_data {
        Some(sources) => Some(DataRows::read_evaluation(recipe, sources, min_responses, observer)?),
        None => rows.hold_out(recipe)?,
    };
    Ok((rows, eval))
}

fn prepare_all(
    recipe: &Recipe,
    files: (DataRows, Option<DataRows>),
    tokenizer: &TextTokenizer,
    needs: &Needs,
    options: &SessionOptions,
    observer: &mut dyn Observer,
) -> Result<Prepared, TrainError> {
    let (rows, eval) = files;
    let data = rows.tokenize(recipe, tokenizer, needs.min_responses, observer)?;
    check_responses(recipe, &data, needs.max_responses)?;
    let eval = eval.map(|rows| rows.tokenize(recipe, tokenizer, needs.min_responses, observer));
    let held_out = eval.transpose()?;
    let reference = needs.reference.then(|| Reference::open(recipe, options));
    Ok(Prepared { data, held_out, reference })
}

/// Writes the final model, its tokenizer, the model card and the report.
fn finish(recipe: &Recipe, session: &dyn Session, model: &Path, summary: &TrainSummary) -> Result<(), TrainError> {
    let out = &recipe.output_dir;
    let dtype = storage_dtype(recipe, session.config());
    session.save_model(out, dtype, recipe.max_shard_size)?;
    session.check_saved(out, dtype)?;
    copy_side_files(model, out)?;
    write_documents(recipe, summary)
}

/// Writes the model card and the report of a finished run, from its metrics and its `results.json` if it has one.
///
/// # Errors
/// A file of the run cannot be read or written.
pub fn write_documents(recipe: &Recipe, summary: &TrainSummary) -> Result<(), TrainError> {
    let out = &recipe.output_dir;
    let files = RunFiles::read(out)?;
    let objective = registry::find(&recipe.objective.name)?;
    let base = recipe.model_name_or_path.as_deref();
    let license = base.and_then(|base| license_of(&read_text(&base.join("README.md"), MAX_CARD_BYTES).ok()?));
    let card = render_card(&CardInput {
        recipe,
        base: &base.map_or_else(|| "unknown".to_owned(), base_name),
        summary: objective.summary,
        paper: objective.paper,
        base_hash: summary.base_hash.as_deref(),
        license: license.as_deref(),
        num_groups: summary.num_groups,
        num_steps: summary.num_steps,
        rows: &files.rows,
        results: files.results.as_ref(),
    });
    write_atomically(&out.join("README.md"), card.as_bytes())?;
    write_report_from(&files, out)?;
    Ok(())
}

/// The name of a model: on the hub with its commit where it is in the hub's cache, else its folder's.
fn base_name(path: &Path) -> String {
    let folder = || path.file_name().map_or_else(|| path.display().to_string(), |name| name.display().to_string());
    collimate_hub::name_of_snapshot(path).unwrap_or_else(folder)
}

/// Lengths and rewards of the training data, for the report.
fn length_sample(groups: &[TokenizedGroup]) -> LengthSample {
    let responses = groups.iter().flat_map(|group| &group.responses);
    LengthSample::from_training_data(responses.map(|response| (response.ids.len(), response.reward)))
}

/// A balance loss needs a router.
fn check_experts(recipe: &Recipe, config: &ModelConfig) -> Result<(), TrainError> {
    if config.experts.is_some() || recipe.router_aux_loss_coef.is_none_or(|weight| weight == 0.0) {
        return Ok(());
    }
    let message = format!("is for models whose router picks experts, and {} has none", config.family.model_type);
    Err(TrainError::RecipeValue { key: "router_aux_loss_coef", message })
}

fn missing(key: &'static str) -> TrainError {
    TrainError::RecipeValue { key, message: "is needed to train".to_owned() }
}

fn check_responses(recipe: &Recipe, data: &PreparedData, limit: Option<usize>) -> Result<(), TrainError> {
    let Some(limit) = limit else { return Ok(()) };
    match data.groups.iter().find(|group| group.responses.len() > limit) {
        None => Ok(()),
        Some(group) => Err(TrainError::TooManyResponses {
            path: data.files.path(group.index).to_owned(),
            line: group.line,
            found: group.responses.len(),
            limit,
            objective: recipe.objective.name.clone(),
        }),
    }
}

fn session_options(recipe: &Recipe, model: PathBuf) -> Result<SessionOptions, TrainError> {
    let (backend, dtype) = (backend_name(recipe), compute_dtype(recipe));
    check_dtype(backend, recipe.device, dtype).map_err(|error| match error {
        BackendError::Dtype { .. } => TrainError::RecipeValue { key: "compute_dtype", message: error.to_string() },
        other => other.into(),
    })?;
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
        backend: backend.to_owned(),
        device: recipe.device,
        dtype,
        training,
        seed: recipe.seed,
    })
}

/// The type that the final weights are stored in: the recipe's, or the one that the base model has.
fn storage_dtype(recipe: &Recipe, config: &ModelConfig) -> StorageDtype {
    let named = recipe.torch_dtype.as_deref().filter(|name| *name != "auto").or(config.dtype.as_deref());
    named.and_then(StorageDtype::from_name).unwrap_or(StorageDtype::F32)
}

fn tell_start(run: &Run<'_>, session: &dyn Session, observer: &mut dyn Observer) -> Result<(), TrainError> {
    summary::start_lines(run, session)?.iter().for_each(|line| observer.note(line));
    if session.config().names_code() {
        let note = "config.json names code of its own (auto_map), which is never run: the model is computed as";
        observer.note(&format!("{note} {}", session.summary().architecture));
    }
    Ok(())
}

/// A count with its thousands apart: 134,515,008.
pub fn grouped(count: usize) -> String {
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
