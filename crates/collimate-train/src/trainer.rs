//! A whole run: check, read, open, score the reference, take the steps, write what is left.

mod best;
mod books;
mod check;
mod evaluate;
mod finish;
mod finished;
mod folder;
mod held;
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
mod start;
mod step;
mod steps;
mod summary;

use std::time::Instant;

use collimate_collective::{Collective, StopFlag};
use collimate_files::FolderLock;
use collimate_recipe::Recipe;
use collimate_report::LengthSample;

use crate::control::{RunContext, RunControl};
use crate::dataset::DataSet;
use crate::error::TrainError;
use crate::reference::Origins;
use books::Books;
use check::{Checked, check};
use collimate_checkpoint::Checkpoint;
use collimate_progress::{Observer, TrainSummary};
use collimate_session::{CheckedSession, share_of_machine};
use finish::finish;
use open::{Opened, open};
use record::write_recipe;
use resume::{check_same_run, same_checkpoint};
use rounding::RoundingProbe;
use run::Run;
use sample_prompts::SamplePrompts;
use start::Start;
use steps::{Finished, take_all_steps};
use summary::start_lines;

pub use check::check_recipe;
pub use finish::write_documents;
pub use finished::{FinishedRun, Part, with_finished};
pub use folder::check_folder;
pub use plan::{
    Plan, PlanOptions, PlannedData, PlannedInputs, PlannedMemory, PlannedModel, PlannedRanks, PlannedSteps,
    PlannedTime, TokenBasis, plan,
};

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
    collimate_backend::guarded(|| whole_run(Some(lock), recipe, control.resume, &mut context))?
}

/// [`train`] as one of the ranks of a world, all of which make this call with the same recipe. The first one writes and reports;
/// its summary alone has figures.
///
/// # Errors
/// As [`train`], on the rank that found it; the others return [`TrainError::Ranks`]. An error that is not found by all ranks at
/// the same place leaves the others waiting, so whoever gets one must end them ([`Collective::abort`]), unless it is
/// [`TrainError::Interrupted`], which all ranks return.
pub fn train_among(
    recipe: &Recipe,
    observer: &mut dyn Observer,
    control: &RunControl,
    world: &dyn Collective,
) -> Result<TrainSummary, TrainError> {
    if world.size() == 1 {
        return train(recipe, observer, control);
    }
    let agreed = StopFlag::default();
    let mut context = RunContext::among(world, &control.stop, &agreed, observer);
    let lock = context.ranks.is_first().then(|| FolderLock::acquire(&recipe.output_dir)).transpose();
    let mut lock = context.ranks.agree(lock.map_err(TrainError::from))?;
    collimate_backend::guarded(|| whole_run(lock.as_mut(), recipe, control.resume, &mut context))?
}

fn whole_run(
    lock: Option<&mut FolderLock>,
    given: &Recipe,
    resume: bool,
    context: &mut RunContext<'_>,
) -> Result<TrainSummary, TrainError> {
    let begun = Instant::now();
    let is_first = context.ranks.is_first();
    let Begun { recipe, checked, session, checkpoint, ranks } = begin(given, resume, context)?;
    let recipe = &recipe;
    let Opened { mut run, mut session, reference } = open(recipe, &checked, session, lock, context)?;
    run.given = given;

    let origins = Origins::hash(recipe, reference.as_ref())?;
    same_run(checkpoint.as_ref(), &run, &origins, context)?;
    session.notes().iter().for_each(|note| context.observer.note(&format!("warning: {note}")));
    start_lines(&run, session.as_ref(), &checked.outline)?.iter().for_each(|line| context.observer.note(line));
    let mut samples = is_first.then(|| SamplePrompts::new(&run, &checked.tokenizer)).transpose()?;
    if is_first && run.held_out.is_none() {
        length_sample(&run.training)?.write(&recipe.output_dir)?;
    }
    let finished_steps = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.state.global_step);
    let mut begin = |reference| run.begin_reference(reference, finished_steps, session.as_mut(), context);
    let reference = reference.map(&mut begin).transpose()?.flatten();

    let answering = Instant::now();
    samples.iter_mut().try_for_each(|samples| samples.before(session.as_mut(), resume, context.observer))?;
    let probe = RoundingProbe::before(&run, session.as_mut())?;
    let samples_took = answering.elapsed();
    let start = Start { checkpoint, origins: origins.clone(), reference, begun, samples: samples_took, ranks };
    let training = Instant::now();
    let Finished { state, books, memory } = take_all_steps(&run, session.as_mut(), start, context)?;
    let training = training.elapsed();
    let best = best::load_best(recipe, &state, session.as_mut(), context)?;
    samples.iter_mut().try_for_each(|samples| samples.after(training, session.as_mut(), context.observer))?;
    let rounding = probe.map(|probe| probe.after(&run, session.as_mut())).transpose()?;
    let sample_seconds = samples.as_ref().map_or(0.0, SamplePrompts::seconds);
    let figures = books.map(Books::close).transpose()?.unwrap_or_default();

    let summary = TrainSummary {
        output_dir: recipe.output_dir.clone(),
        num_steps: state.global_step,
        num_groups: run.training.len(),
        base_hash: Some(origins.base),
        first: figures.first,
        last: figures.last,
        evaluations: figures.evaluations,
        best,
        num_skipped_steps: state.num_skipped_steps,
        rounding,
        chosen_alarm: figures.chosen_alarm,
        verdict: figures.verdict,
        seconds: begun.elapsed().as_secs_f64() - sample_seconds,
        sample_seconds,
        rank_memory: if context.ranks.size() > 1 { memory } else { Vec::new() },
    };
    let finished = if is_first { finish(recipe, session.as_ref(), &checked.model, &summary) } else { Ok(()) };
    context.ranks.agree(finished)?;
    Ok(summary)
}

/// What is known of a run before anything large is read.
struct Begun {
    /// As this process computes it.
    recipe: Recipe,
    checked: Checked,
    session: CheckedSession,
    checkpoint: Option<Checkpoint>,
    /// The ranks whose micro-batches make up a step, if they are several.
    ranks: Option<usize>,
}

/// Checks a run. A step has the groups of the ranks that the run began with, however many there are now.
fn begin(given: &Recipe, resume: bool, context: &mut RunContext<'_>) -> Result<Begun, TrainError> {
    let mut recipe = share_of_machine(given, &context.ranks)?;
    let checked = check(&recipe, given, resume, context).map(|(checked, session, found)| ((checked, session), found));
    let ((checked, session), checkpoint) = same_checkpoint(&context.ranks, checked)?;
    let ranks = match &checkpoint {
        Some(checkpoint) => checkpoint.state.ranks,
        None => Some(context.ranks.size()).filter(|size| *size > 1),
    };
    let micro_batches = recipe.gradient_accumulation_steps.saturating_mul(ranks.unwrap_or(1));
    recipe.gradient_accumulation_steps = micro_batches;
    Ok(Begun { recipe, checked, session, checkpoint, ranks })
}

/// Checks that a checkpoint is one of this run, or begins the run's folder.
fn same_run(
    checkpoint: Option<&Checkpoint>,
    run: &Run<'_>,
    origins: &Origins,
    context: &mut RunContext<'_>,
) -> Result<(), TrainError> {
    if let Some(checkpoint) = checkpoint {
        let note = context.ranks.agree(check_same_run(checkpoint, run, origins))?;
        note.iter().for_each(|note| context.observer.note(note));
        return Ok(());
    }
    // The first file of a run, so that --resume finds it whenever the run is killed.
    if context.ranks.is_first() { write_recipe(run.given) } else { Ok(()) }
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
