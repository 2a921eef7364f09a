//! Prepares a run: reads and tokenizes rows, opens the model, looks up the reference.

use collimate_files::{FolderLock, remove_leftovers};
use collimate_hf::ModelConfig;
use collimate_progress::Observer;
use collimate_recipe::{Recipe, RouterLoss};
use collimate_text::TextTokenizer;

use super::check::{Checked, check_drop_last};
use super::plan::PlannedDisk;
use super::run::Run;
use crate::control::RunContext;
use crate::dataset::DataSet;
use crate::error::TrainError;
use crate::packs::PassBudget;
use crate::prepare::{DataRows, PreparedData};
use crate::reference::Reference;
use crate::session::{Session, open_session};
use crate::threads::join;

/// The rows of a run, as text.
pub(super) struct Rows {
    training: DataRows,
    held_out: Option<DataRows>,
}

/// Everything a run works on.
pub(super) struct Opened<'a> {
    pub(super) run: Run<'a>,
    pub(super) session: Box<dyn Session>,
    pub(super) reference: Option<Reference>,
}

/// Tokens of a run's rows, and its reference.
struct Prepared {
    training: PreparedData,
    held_out: Option<PreparedData>,
    /// `None` if the objective needs none. An error is kept until later, so that one about opening the model is reported
    /// first.
    reference: Option<Result<Reference, TrainError>>,
}

/// Reads the rows to train on and those to evaluate on, if any.
pub(super) fn read_rows(recipe: &Recipe, checked: &Checked, context: &mut RunContext<'_>) -> Result<Rows, TrainError> {
    let min_responses = checked.needs.min_responses;
    let mut training = DataRows::read(recipe, &checked.sources, min_responses, context.observer)?;
    let held_out = match &recipe.eval_data {
        Some(sources) => Some(DataRows::read_evaluation(recipe, sources, min_responses, context.observer)?),
        None => training.hold_out(recipe)?,
    };
    Ok(Rows { training, held_out })
}

/// Tokenizes the rows and opens the model concurrently; from here on the output folder is kept.
///
/// # Errors
/// A row cannot be used, the model cannot be opened, or a response does not fit into memory.
pub(super) fn open<'a>(
    recipe: &'a Recipe,
    checked: &'a Checked,
    rows: Rows,
    lock: &mut FolderLock,
    context: &mut RunContext<'_>,
) -> Result<Opened<'a>, TrainError> {
    let observer = &mut *context.observer;
    let (prepared, session) = std::thread::scope(|scope| {
        let preparation = scope.spawn(move || prepare(recipe, checked, rows, observer));
        // Opened on this thread: see `run_passes_on_the_main_thread`.
        let session = open_session(&checked.session);
        (join(preparation), session)
    });
    let Prepared { training, held_out, reference } = prepared?;
    remove_leftovers(&recipe.output_dir)?;
    lock.keep_folder();
    for note in training.notes.iter().chain(held_out.iter().flat_map(|data| &data.notes)) {
        context.observer.note(note);
    }
    let session = session?;
    check_experts(recipe, session.config())?;
    let widest = |data: &PreparedData| data.groups.iter().map(|group| group.responses.len()).max();
    let widest = widest(&training).max(held_out.as_ref().and_then(widest)).unwrap_or(1);
    let budget = PassBudget::new(checked.outline.allowance(recipe), session.memory_costs(), recipe)?.with_objective(
        &checked.needs,
        widest,
        recipe,
    )?;
    let data_set = |data: PreparedData| DataSet::new(data.groups, data.files);
    let run = Run::new(recipe, checked.objective.as_ref(), budget, data_set(training), held_out.map(data_set));
    budget.check(&run.training)?;
    run.held_out.as_ref().map_or(Ok(()), |held_out| budget.check(held_out))?;
    PlannedDisk::of(recipe, &checked.outline, Some(&run.counts)).check(recipe)?;
    Ok(Opened { run, session, reference: reference.transpose()? })
}

fn prepare(
    recipe: &Recipe,
    checked: &Checked,
    rows: Rows,
    observer: &mut dyn Observer,
) -> Result<Prepared, TrainError> {
    let (tokenizer, needs): (&TextTokenizer, _) = (&checked.tokenizer, &checked.needs);
    let training = rows.training.tokenize(recipe, tokenizer, needs.min_responses, observer)?;
    check_drop_last(recipe, training.groups.len())?;
    let held_out = rows.held_out.map(|rows| rows.tokenize(recipe, tokenizer, needs.min_responses, observer));
    let held_out = held_out.transpose()?;
    let reference = needs.reference.then(|| Reference::open(recipe, &checked.session));
    Ok(Prepared { training, held_out, reference })
}

/// Rejects a balance-loss weight if the model has no router.
fn check_experts(recipe: &Recipe, config: &ModelConfig) -> Result<(), TrainError> {
    if config.experts.is_some() || !matches!(recipe.router_aux_loss_coef, RouterLoss::Weight(weight) if weight != 0.0) {
        return Ok(());
    }
    let message = format!("is for models whose router picks experts, and {} has none", config.family.model_type);
    Err(TrainError::RecipeValue { key: "router_aux_loss_coef", message })
}
