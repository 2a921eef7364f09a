//! Prepares a run: reads and tokenizes rows, opens the model, looks up the reference.

use collimate_disk::PlannedDisk;
use collimate_files::{FolderLock, remove_leftovers};
use collimate_hf::ModelConfig;
use collimate_progress::Observer;
use collimate_recipe::{Recipe, RouterLoss};
use collimate_store::{DataRequest, GroupStore, Preparation, PreparedGroups};

use super::check::{Checked, check_drop_last};
use super::held::{PROGRAM, held_bytes};
use super::run::{Run, num_orders};
use crate::control::RunContext;
use crate::dataset::DataSet;
use crate::error::TrainError;
use crate::packs::PassBudget;
use crate::prepare::{encoder, evaluation_request, training_request};
use crate::reference::Reference;
use collimate_kernels::join;
use collimate_session::{CheckedSession, Session};

/// The rows of a run, or the tokens that an earlier run made of them.
struct Rows<'a> {
    training: Preparation<'a>,
    /// Evaluation data of its own; what is held out of the training data is prepared with that.
    held_out: Option<Preparation<'a>>,
}

/// Everything a run works on.
pub(super) struct Opened<'a> {
    pub(super) run: Run<'a>,
    pub(super) session: Box<dyn Session>,
    pub(super) reference: Option<Reference>,
}

/// Tokens of a run's rows, and its reference.
struct Prepared {
    training: GroupStore,
    held_out: Option<GroupStore>,
    /// Lines for the log.
    notes: Vec<String>,
    /// `None` if the objective needs none. An error is kept until later, so that one about opening the model is reported
    /// first.
    reference: Option<Result<Reference, TrainError>>,
}

/// Reads the rows to train on and those to evaluate on, if any, unless their tokens are known.
fn read_rows<'a>(
    recipe: &'a Recipe,
    checked: &'a Checked,
    observer: &mut dyn Observer,
) -> Result<Rows<'a>, TrainError> {
    let min_responses = checked.needs.min_in_data();
    let bytes = checked.outline.allowance(recipe).bytes;
    let memory = bytes.map(|bytes| bytes.saturating_sub(checked.outline.costs.resident + PROGRAM));
    let mut begin = |request: DataRequest<'a>| {
        let encoder = encoder(recipe, &checked.tokenizer, min_responses);
        Preparation::begin(DataRequest { memory, ..request }, encoder, &checked.store_folder, true, observer)
    };
    let training = begin(training_request(recipe, &checked.sources, min_responses)?)?;
    let held_out = match &recipe.eval_data {
        Some(sources) => Some(begin(evaluation_request(recipe, sources, min_responses)?)?),
        None => None,
    };
    Ok(Rows { training, held_out })
}

/// Reads and tokenizes the rows and opens the model concurrently; from here on the output folder is kept. The first of several
/// ranks makes the tokens, which the others then find.
///
/// # Errors
/// A row cannot be used, the model cannot be opened, or a response does not fit into memory.
pub(super) fn open<'a>(
    recipe: &'a Recipe,
    checked: &'a Checked,
    session: CheckedSession,
    lock: Option<&mut FolderLock>,
    context: &mut RunContext<'_>,
) -> Result<Opened<'a>, TrainError> {
    let ranks = context.ranks.clone();
    let first_rows = ranks.is_first().then(|| read_rows(recipe, checked, context.observer)).transpose();
    let first_rows = ranks.agree(first_rows)?;
    let (here, observer) = (&ranks, &mut *context.observer);
    let (prepared, session) = std::thread::scope(|scope| {
        let preparation = scope.spawn(move || match first_rows {
            Some(rows) => here.agree(prepare(recipe, checked, rows, true, observer)),
            None => {
                here.agree(Ok::<_, TrainError>(()))?;
                prepare(recipe, checked, read_rows(recipe, checked, observer)?, false, observer)
            }
        });
        // Opened on this thread: see `run_passes_on_the_main_thread`.
        let session = session.open();
        (join(preparation), session)
    });
    let Prepared { training, held_out, notes, reference } = ranks.agree(prepared)?;
    if let Some(lock) = lock {
        remove_leftovers(&recipe.output_dir)?;
        lock.keep_folder();
    }
    notes.iter().for_each(|note| context.observer.note(note));
    let session = ranks.agree(session.map_err(TrainError::from))?;
    let run = ranks.agree(assemble(recipe, checked, session.as_ref(), training, held_out))?;
    Ok(Opened { run, session, reference: ranks.agree(reference.transpose())? })
}

/// The run itself, once it is known that it fits into memory and onto the disk.
fn assemble<'a>(
    recipe: &'a Recipe,
    checked: &'a Checked,
    session: &dyn Session,
    training: GroupStore,
    held_out: Option<GroupStore>,
) -> Result<Run<'a>, TrainError> {
    check_experts(recipe, session.config())?;
    let widest = training.totals().most_responses;
    let widest = widest.max(held_out.as_ref().map_or(1, |data| data.totals().most_responses));
    let widest = checked.needs.num_columns(widest);
    let num_orders = num_orders(recipe, &recipe.step_counts(training.len()));
    let budget = PassBudget::new(checked.outline.allowance(recipe), session.memory_costs(), recipe)?
        .with_objective(&checked.needs, widest, recipe)?
        .beside(held_bytes(&training, held_out.as_ref(), &checked.needs, num_orders))?
        .for_operations(session.config().operations_per_token());
    let data_set = |mut store: GroupStore| {
        if let Some(vision) = &session.config().vision {
            store.load_ahead(vision.images.clone(), !session.memory_costs().trains_tower);
        }
        DataSet::new(store, checked.store_folder.clone())
    };
    let run = Run::new(recipe, checked.objective.as_ref(), budget, data_set(training), held_out.map(data_set))?;
    run.check_fits()?;
    PlannedDisk::new(recipe, &checked.outline, Some(&run.counts)).check(recipe)?;
    Ok(run)
}

fn prepare(
    recipe: &Recipe,
    checked: &Checked,
    rows: Rows<'_>,
    is_first: bool,
    observer: &mut dyn Observer,
) -> Result<Prepared, TrainError> {
    let needs = &checked.needs;
    let PreparedGroups { training, held_out, notes: mut found } = rows.training.finish(observer)?;
    check_drop_last(recipe, training.len())?;
    let mut held_out = held_out.transpose()?;
    if let Some(rows) = rows.held_out {
        let prepared = rows.finish(observer)?;
        found.extend(prepared.notes);
        held_out = Some(prepared.training);
    }
    let stores = std::iter::once(&training).chain(&held_out);
    let notes = stores.flat_map(|store| store.notes().to_vec()).chain(found).collect();
    let reference = needs.reference.then(|| Reference::open(recipe, &checked.beside, is_first));
    Ok(Prepared { training, held_out, notes, reference })
}

/// Rejects a balance-loss weight if the model has no router.
fn check_experts(recipe: &Recipe, config: &ModelConfig) -> Result<(), TrainError> {
    if config.experts.is_some() || !matches!(recipe.router_aux_loss_coef, RouterLoss::Weight(weight) if weight != 0.0) {
        return Ok(());
    }
    let message = format!("is for models whose router picks experts, and {} has none", config.family.model_type);
    Err(TrainError::RecipeValue { key: "router_aux_loss_coef", message })
}
