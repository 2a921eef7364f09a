//! Decides which checkpoint a run may continue from.

use std::path::PathBuf;

use collimate_collective::CollectiveError;
use collimate_data::counted;
use collimate_files::recover_folders;
use collimate_recipe::Recipe;

use super::run::Run;
use crate::control::RunContext;
use crate::error::TrainError;
use crate::reference::Origins;
use collimate_checkpoint::{Checkpoint, TrainerState};
use collimate_collective::Ranks;

/// Finds the checkpoint to continue from; notes if there is none. Without `resume` there is none: `check_folder` has made sure
/// that the output folder holds no run.
///
/// # Errors
/// The folder's checkpoints are damaged or were written with another recipe.
pub(super) fn find_checkpoint(
    recipe: &Recipe,
    resume: bool,
    context: &mut RunContext<'_>,
) -> Result<Option<Checkpoint>, TrainError> {
    let out = &recipe.output_dir;
    if !resume {
        return Ok(None);
    }
    recover_folders(out)?;
    let (found, warnings) = collimate_checkpoint::newest(out)?;
    warnings.iter().for_each(|warning| context.observer.note(&format!("warning: {warning}")));
    match found {
        Some(found) if found.state.fingerprint != recipe_fingerprint(recipe) => {
            let message = format!("belongs to a run with another recipe{}", differences(&found, recipe)?);
            Err(TrainError::Checkpoint { path: found.path, message })
        }
        Some(found) => Ok(Some(found)),
        None => {
            let note = format!("{}: no checkpoint to resume from; starting at step 1", out.display());
            context.observer.note(&note);
            Ok(None)
        }
    }
}

/// The checkpoint that the first rank found, on all ranks.
///
/// # Errors
/// The first that any rank found wrong with the run.
pub(super) fn same_checkpoint<T>(
    ranks: &Ranks<'_>,
    checked: Result<(T, Option<Checkpoint>), TrainError>,
) -> Result<(T, Option<Checkpoint>), TrainError> {
    if ranks.size() == 1 {
        return checked;
    }
    let (checked, found) = match checked {
        Ok((checked, found)) => (Some(checked), Ok(found)),
        Err(error) => (None, Err(error)),
    };
    let mine = found.map(|found| {
        let found = found.map(|Checkpoint { path, state }| (path, state));
        serde_json::to_vec(&found).unwrap_or_default()
    });
    let all = ranks.share(mine)?;
    let found: Option<(PathBuf, TrainerState)> = serde_json::from_slice(&all[0]).ok().flatten();
    let checked = checked.ok_or(TrainError::Ranks(CollectiveError::Closed))?;
    Ok((checked, found.map(|(path, state)| Checkpoint { path, state })))
}

/// Checks that a checkpoint belongs to a run on the same data with the same model and reference, whatever they are called,
/// and has steps left. Returns what to say about the number of steps, if it differs from the checkpoint's or none is left.
///
/// # Errors
/// It belongs to another run, or to one that has already done more steps.
pub(super) fn check_same_run(
    checkpoint: &Checkpoint,
    run: &Run<'_>,
    origins: &Origins,
) -> Result<Option<String>, TrainError> {
    let refuse = |what: &str| {
        let message = format!("belongs to a run with {what}; resuming needs what the run began with");
        Err(TrainError::Checkpoint { path: checkpoint.path.clone(), message })
    };
    let state = &checkpoint.state;
    if state.data != run.data_fingerprint()? {
        let data = run.recipe.data.iter().chain(&run.recipe.eval_data).map(ToString::to_string);
        let data = data.collect::<Vec<_>>().join(", ");
        return refuse(&format!("other data than {data}, or another tokenizer"));
    }
    if state.start.as_ref().is_some_and(|there| *there != origins.start) || state.reference != origins.reference {
        return refuse("other weights of the model, adapter or reference");
    }
    steps_left(checkpoint, run)
}

/// What to say about the steps that are left.
fn steps_left(checkpoint: &Checkpoint, run: &Run<'_>) -> Result<Option<String>, TrainError> {
    let (done, before, now) = (checkpoint.state.global_step, checkpoint.state.max_steps, run.counts.total_steps);
    let key = if run.recipe.max_steps > 0 { "max_steps" } else { "num_train_epochs" };
    let result = if run.recipe.use_peft { "adapter" } else { "model_name_or_path" };
    let out = run.recipe.output_dir.display();
    let another = format!("to start another run from its result, set {result} to {out} and another output_dir");
    if done > now {
        let message = format!(
            "the run has done {}, and {key} gives it {now}: give it more to go on with it (--set {key}=…); {another}",
            counted(done, "step")
        );
        return Err(TrainError::TooFewSteps { path: checkpoint.path.clone(), message });
    }
    if done == now {
        let what = format!("the run is finished after {}, so nothing is trained", counted(done, "step"));
        return Ok(Some(format!("{what}: to go on with it, raise {key} (--set {key}=…); {another}")));
    }
    let last = Recipe { max_steps: before as i64, ..run.recipe.clone() };
    let last = last.schedule(&last.step_counts(run.training.len())).lr(done.saturating_sub(1));
    let next = run.learning_rate(done);
    Ok((before != now).then(|| {
        format!(
            "{key} gives the run {}, before it was {before}: the learning rate goes on as if it had always been \
             {now}, with {next:.3e} in step {} (the step before had {last:.3e})",
            counted(now, "step"),
            done + 1
        )
    }))
}

/// Lines of keys without a say in the results that earlier versions did not have.
const LATER_KEYS: [&str; 7] = [
    "token_cache: auto\n",
    "load_best_model_at_end: false\n",
    "metric_for_best_model: null\n",
    "greater_is_better: null\n",
    "early_stopping_patience: null\n",
    "early_stopping_threshold: 0.0\n",
    "stop_on_drift: {}\n",
];

/// A hash of every recipe key that affects the computation.
pub(super) fn recipe_fingerprint(recipe: &Recipe) -> String {
    let yaml = recipe.of_results().resolved_yaml().unwrap_or_default();
    // These keys came later than others; without them, checkpoints of earlier versions are still resumed.
    let yaml = LATER_KEYS.iter().fold(yaml, |yaml, line| yaml.replace(line, ""));
    blake3::hash(yaml.as_bytes()).to_hex()[..16].to_owned()
}

/// Lists the keys in which a checkpoint's recipe differs, for the error.
fn differences(checkpoint: &Checkpoint, recipe: &Recipe) -> Result<String, TrainError> {
    let lines = |yaml: String| yaml.lines().map(str::to_owned).collect::<Vec<_>>();
    let theirs = lines(checkpoint.recipe_yaml()?);
    let counted = lines(recipe.of_results().resolved_yaml()?);
    let ours = lines(recipe.resolved_yaml()?);
    // A neutral key's line is counted only if it has its default value anyway.
    let differing: Vec<String> = ours
        .iter()
        .filter(|line| counted.contains(line) && !theirs.contains(line))
        .map(|line| {
            let key = line.split(':').next().unwrap_or_default();
            let their_line = theirs.iter().find(|line| line.split(':').next() == Some(key));
            let value = their_line.and_then(|line| line.split_once(':')).map_or("absent", |(_, value)| value.trim());
            format!("{} (there {value})", line.trim())
        })
        .collect();
    let listed = if differing.is_empty() { String::new() } else { format!(": {}", differing.join(", ")) };
    Ok(format!("{listed}; resume with the recipe.yaml beside it, or choose another --output"))
}
