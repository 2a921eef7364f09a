//! A whole run: check, read, open, score the reference, take the steps, write what is left.

mod check;
mod disk;
mod evaluate;
mod finish;
mod folder;
mod held;
mod lora;
mod nonfinite;
mod open;
mod page;
mod plan;
mod record;
mod referenced;
mod resume;
mod rounding;
mod run;
mod sample_prompts;
mod saving;
mod self_check;
mod step;
mod steps;
mod storage;
mod summary;

use std::path::PathBuf;
use std::time::Instant;

use collimate_files::FolderLock;
use collimate_recipe::Recipe;
use collimate_report::{LengthSample, MetricsRow, Rounding};

use crate::control::{RunContext, RunControl};
use crate::dataset::DataSet;
use crate::error::TrainError;
use crate::reference::Origins;
use check::check;
use collimate_progress::Observer;
use finish::finish;
use open::{Opened, open, read_rows};
use record::write_recipe;
use resume::check_same_run;
use rounding::RoundingProbe;
use sample_prompts::SamplePrompts;
use steps::{Finished, Start, take_all_steps};
use summary::start_lines;

pub use check::check_recipe;
pub use finish::write_documents;
pub use folder::check_folder;
pub use plan::{
    Plan, PlanOptions, PlannedData, PlannedDisk, PlannedInputs, PlannedMemory, PlannedModel, PlannedSteps, PlannedTime,
    TokenBasis, plan,
};

/// The outcome of a finished run.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainSummary {
    /// Folder with the final model or adapter, metrics, card and report.
    pub output_dir: PathBuf,
    /// Optimizer steps of the run.
    pub num_steps: usize,
    /// Prompts in the training data.
    pub num_groups: usize,
    /// BLAKE3 of the base model's weights and settings, in hexadecimal; `None` if the base could not be read.
    pub base_hash: Option<String>,
    /// The first recorded step's figures.
    pub first: Option<MetricsRow>,
    /// The last step's figures.
    pub last: Option<MetricsRow>,
    /// Evaluations on held-out data at the start and at the end.
    pub evaluations: Vec<MetricsRow>,
    /// Steps skipped because a figure was not finite.
    pub num_skipped_steps: usize,
    /// What rounding the weights to their storage dtype takes of what was learned; `None` if they are not rounded.
    pub rounding: Option<Rounding>,
    /// The last warning that the chosen responses lose likelihood, if any.
    pub chosen_alarm: Option<String>,
    /// What went wrong with the training, and what might help: it learned nothing, or did harm.
    pub verdict: Option<String>,
    /// Wall-clock time without that of sample answers.
    pub seconds: f64,
    /// Time of the sample answers.
    pub sample_seconds: f64,
}

/// Trains as the recipe says, from the start or from the newest intact checkpoint of the output folder.
///
/// # Errors
/// Anything wrong with recipe, data, model or folder before any compute; another run in the folder; a failed self-check;
/// a non-finite figure; a device out of memory; a requested stop. What was written before stays.
pub fn train(recipe: &Recipe, observer: &mut dyn Observer, control: &RunControl) -> Result<TrainSummary, TrainError> {
    let mut lock = FolderLock::acquire(&recipe.output_dir)?;
    train_in(&mut lock, recipe, observer, control)
}

/// [`train`] in the recipe's `output_dir`, which the caller has locked.
///
/// # Errors
/// As [`train`].
pub fn train_in(
    lock: &mut FolderLock,
    recipe: &Recipe,
    observer: &mut dyn Observer,
    control: &RunControl,
) -> Result<TrainSummary, TrainError> {
    let mut context = RunContext::new(&control.stop, observer);
    collimate_backend::guarded(|| whole_run(lock, recipe, control.resume, &mut context))?
}

fn whole_run(
    lock: &mut FolderLock,
    recipe: &Recipe,
    resume: bool,
    context: &mut RunContext<'_>,
) -> Result<TrainSummary, TrainError> {
    let begun = Instant::now();
    let (checked, session, checkpoint) = check(recipe, resume, context)?;
    let rows = read_rows(recipe, &checked, context)?;
    let Opened { run, mut session, reference } = open(recipe, &checked, session, rows, lock, context)?;

    let origins = Origins::hash(recipe, reference.as_ref())?;
    match &checkpoint {
        Some(checkpoint) => {
            let note = check_same_run(checkpoint, &run, &origins)?;
            note.iter().for_each(|note| context.observer.note(note));
        }
        // The first file of a run, so that --resume finds it whenever the run is killed.
        None => write_recipe(recipe)?,
    }
    session.notes().iter().for_each(|note| context.observer.note(&format!("warning: {note}")));
    start_lines(&run, session.as_ref(), &checked.outline)?.iter().for_each(|line| context.observer.note(line));
    let mut samples = SamplePrompts::new(&run, &checked.tokenizer)?;
    if run.held_out.is_none() {
        length_sample(&run.training)?.write(&recipe.output_dir)?;
    }
    let finished_steps = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.state.global_step);
    let mut begin = |reference| run.begin_reference(reference, finished_steps, session.as_mut(), context);
    let reference = reference.map(&mut begin).transpose()?.flatten();

    let answering = Instant::now();
    samples.before(session.as_mut(), resume, context.observer)?;
    let probe = RoundingProbe::before(&run, session.as_mut())?;
    let samples_took = answering.elapsed();
    let start = Start { checkpoint, origins: origins.clone(), reference, begun, samples: samples_took };
    let training = Instant::now();
    let finished = take_all_steps(&run, session.as_mut(), start, context)?;
    let Finished { state, history, mut page, verdict } = finished;
    samples.after(training.elapsed(), session.as_mut(), context.observer)?;
    let rounding = probe.map(|probe| probe.after(&run, session.as_mut())).transpose()?;
    page.write_info()?;

    let summary = TrainSummary {
        output_dir: recipe.output_dir.clone(),
        num_steps: state.global_step,
        num_groups: run.training.len(),
        base_hash: Some(origins.base),
        first: history.first,
        last: history.last,
        evaluations: history.evaluations,
        num_skipped_steps: state.num_skipped_steps,
        rounding,
        chosen_alarm: history.chosen_alarm,
        verdict,
        seconds: begun.elapsed().as_secs_f64() - samples.seconds(),
        sample_seconds: samples.seconds(),
    };
    finish(recipe, session.as_ref(), &checked.model, &summary)?;
    Ok(summary)
}

/// Lengths and rewards of the training data, for the report.
fn length_sample(data: &DataSet) -> Result<LengthSample, TrainError> {
    let mut failed = None;
    let heads = data.store.heads().map_while(|head| head.map_err(|error| failed = Some(error)).ok());
    let responses = heads.flat_map(|head| head.responses);
    let responses = responses.map(|response| (response.tokens as usize, response.reward));
    let sample = LengthSample::from_training_data(data.totals().num_responses, responses);
    failed.map_or(Ok(sample), |error| Err(error.into()))
}
