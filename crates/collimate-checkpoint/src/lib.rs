//! Checkpoints of a run. Each is written under a hidden name, synced, then renamed, so that an existing one is complete;
//! checksums detect later disk corruption. What else may be called `checkpoint-N`, a file, a link or a folder of somebody's, is
//! neither read nor removed.
//!
//! Start with [`save`] and [`newest`]. The crate must not know what is in a model's files: whoever saves writes them.
//!
//! ```
//! use collimate_checkpoint::{CheckpointError, Kept, TrainerState, newest, save};
//!
//! let run = tempfile::tempdir()?;
//! let state = TrainerState { global_step: 3, max_steps: 10, ..TrainerState::default() };
//! let kept = Kept { recipe_yaml: "seed: 1\n", limit: Some(2), best: None };
//! save(run.path(), &state, &kept, |folder| {
//!     std::fs::write(folder.join("weights"), [1, 2, 3]).expect("written");
//!     Ok::<(), CheckpointError>(())
//! })?;
//! let (found, warnings) = newest(run.path())?;
//! assert_eq!((found.unwrap().state, warnings.len()), (state, 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod contents;
mod error;
mod standing;
#[cfg(test)]
mod tests;

pub use error::CheckpointError;
pub use standing::{BestEvaluation, Standing};

use std::fs;
use std::path::{Path, PathBuf};

use collimate_files::{
    CHECKSUMS_FILE, StagedFolder, WriteError, open_plain, read_plain, remove_sealed, verify_checksums,
    write_atomically, write_checksums,
};
use serde::{Deserialize, Serialize};

use contents::{Stored, check_ours, known, names_in, needed};

const STATE_FILE: &str = "trainer_state.json";
const RECIPE_FILE: &str = "recipe.yaml";
const PREFIX: &str = "checkpoint-";
/// The largest state file, in bytes; it has a dozen fields.
const MAX_STATE_BYTES: u64 = 1 << 20;
/// The largest resolved recipe, in bytes.
const MAX_RECIPE_BYTES: u64 = 1 << 20;

/// The state of a run, as stored in `trainer_state.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainerState {
    /// Optimizer steps finished.
    pub global_step: usize,
    /// Passes over the data so far.
    pub epoch: f64,
    /// Optimizer steps of the whole run.
    pub max_steps: usize,
    /// Tokens computed so far; a shared prompt counts once.
    pub num_tokens: u64,
    /// Steps skipped because a figure was not finite.
    pub num_skipped_steps: usize,
    /// Hash of the recipe's keys that change what is computed.
    pub fingerprint: String,
    /// Hash of the tokens and rewards of training and evaluation data.
    pub data: String,
    /// Hash of the model and the adapter that training began from; `None` in checkpoints of earlier versions.
    pub start: Option<String>,
    /// Hash of the reference's model, adapter and computation; `None` if the objective needs none.
    pub reference: Option<String>,
    /// Rows of `metrics.jsonl` so far, evaluations included.
    pub num_rows: usize,
    /// Written because the run stopped early, not because it was due: the next checkpoint replaces it.
    pub interim: bool,
    /// The ranks that the run began with, if they were several: their micro-batches make up a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranks: Option<usize>,
    /// What the run's evaluations come to, if its recipe compares them.
    #[serde(default, skip_serializing_if = "Standing::is_empty")]
    pub standing: Standing,
}

/// A checkpoint whose checksums were verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Its folder.
    pub path: PathBuf,
    /// The run's state.
    pub state: TrainerState,
}

/// What is kept beside a checkpoint's model.
#[derive(Debug, Clone, Copy)]
pub struct Kept<'a> {
    /// The resolved recipe of the run.
    pub recipe_yaml: &'a str,
    /// Most checkpoints to keep; `None` for all.
    pub limit: Option<usize>,
    /// The step of a checkpoint that is kept beside those.
    pub best: Option<usize>,
}

impl Checkpoint {
    /// The resolved recipe of its run.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn recipe_yaml(&self) -> Result<String, CheckpointError> {
        let path = self.path.join(RECIPE_FILE);
        read_plain(&path, MAX_RECIPE_BYTES).map_err(|source| CheckpointError::Io { path, source })
    }
}

/// Writes `checkpoint-N` into the run's folder, then removes the oldest ones beyond the limit. `write_model` writes the model
/// and its optimizer into the folder that it is given. The metrics rows that the state counts must already be on disk.
///
/// # Errors
/// `write_model` fails, or the folder cannot be written, or what has its name is no checkpoint; earlier checkpoints stay.
pub fn save<E: From<CheckpointError>>(
    run: &Path,
    state: &TrainerState,
    kept: &Kept<'_>,
    write_model: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<PathBuf, E> {
    let path = run.join(format!("{PREFIX}{}", state.global_step));
    let staged = StagedFolder::create(&path).map_err(CheckpointError::from)?;
    write_model(staged.staging())?;
    let finish = || {
        let folder = staged.staging();
        write_atomically(&folder.join(RECIPE_FILE), kept.recipe_yaml.as_bytes())?;
        let stored = Stored { state: state.clone(), files: names_in(folder)? };
        let json = serde_json::to_string_pretty(&stored).unwrap_or_default();
        write_atomically(&folder.join(STATE_FILE), (json + "\n").as_bytes())?;
        write_checksums(folder)
    };
    finish().map_err(CheckpointError::from)?;
    staged.replace(&known(&path)).map_err(CheckpointError::from)?;
    remove_superseded(run, state.global_step, kept).map_err(CheckpointError::from)?;
    Ok(path)
}

/// The checkpoint after a step of a run.
///
/// # Errors
/// There is none, or it is damaged.
pub fn after_step(run: &Path, step: usize) -> Result<Checkpoint, CheckpointError> {
    let path = run.join(format!("{PREFIX}{step}"));
    match read(&path, step) {
        Ok(state) => Ok(Checkpoint { path, state }),
        Err(message) => Err(CheckpointError::Damaged { path, message }),
    }
}

/// The newest intact checkpoint of a run, if any, and what is wrong with newer ones.
///
/// # Errors
/// The run's folder cannot be read, it has checkpoints and all are damaged, or something else has a name that the run will
/// need for a checkpoint.
pub fn newest(run: &Path) -> Result<(Option<Checkpoint>, Vec<String>), CheckpointError> {
    check_names(run)?;
    let (mut warnings, mut foreign) = (Vec::new(), None);
    for (step, path) in checkpoints(run)?.into_iter().rev() {
        match read(&path, step) {
            Ok(state) => return foreign.map_or_else(|| Ok((Some(Checkpoint { path, state }), warnings)), Err),
            Err(problem) => {
                // The run will come to this step again, and may not replace what is there.
                let sealed =
                    check_ours(&path).map_err(|message| CheckpointError::Foreign { path: path.clone(), message });
                foreign = foreign.or(sealed.err());
                warnings.push(format!("{}: damaged, passed over: {problem}", path.display()));
            }
        }
    }
    if warnings.is_empty() {
        return Ok((None, warnings));
    }
    let message = format!(
        "every checkpoint is damaged; remove them to start over, or choose another --output\n  {}",
        warnings.join("\n  ")
    );
    Err(CheckpointError::Damaged { path: run.to_owned(), message })
}

/// Checks that whatever is called `checkpoint-N` in a folder is a real folder, before a run starts there that would need the name.
///
/// # Errors
/// [`CheckpointError::Foreign`] for a file, a link or the like; the folder cannot be read.
pub fn check_names(run: &Path) -> Result<(), CheckpointError> {
    for (_, path) in checkpoints(run)? {
        let found = fs::symlink_metadata(&path).map_err(|source| io(&path, source))?;
        if !found.is_dir() {
            let what = if found.is_symlink() { "a link" } else { "not a folder" };
            return Err(CheckpointError::Foreign { path, message: format!("it is {what}") });
        }
    }
    Ok(())
}

/// Whether a folder holds a checkpoint, intact or not.
///
/// # Errors
/// The folder cannot be read.
pub fn has_any(run: &Path) -> Result<bool, CheckpointError> {
    Ok(!checkpoints(run)?.is_empty())
}

/// The recipe beside the newest intact checkpoint of a run, which is that of the run.
///
/// # Errors
/// As [`newest`].
pub fn recipe_of(run: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    Ok(newest(run)?.0.map(|checkpoint| checkpoint.path.join(RECIPE_FILE)).filter(|path| path.is_file()))
}

/// The folders of all checkpoints of a run; none if it cannot be read.
pub fn all(run: &Path) -> Vec<PathBuf> {
    checkpoints(run).unwrap_or_default().into_iter().map(|(_, path)| path).collect()
}

/// Verifies a checkpoint's files and reads its state.
fn read(path: &Path, step: usize) -> Result<TrainerState, String> {
    let files = match open_plain(&path.join(CHECKSUMS_FILE)) {
        // Without a list, its absence is what to say.
        Err(_) => Vec::new(),
        Ok(_) => needed(path)?,
    };
    verify_checksums(path, &files)?;
    let state = read_state(path)?;
    if state.global_step != step {
        return Err(format!("{STATE_FILE} belongs to step {}", state.global_step));
    }
    Ok(state)
}

fn read_state(path: &Path) -> Result<TrainerState, String> {
    read_trainer_state(&path.join(STATE_FILE)).map_err(|error| match error {
        CheckpointError::Io { source, .. } => format!("{STATE_FILE}: {source}"),
        CheckpointError::Damaged { message, .. } => format!("{STATE_FILE}: {message}"),
        other => other.to_string(),
    })
}

/// Reads a `trainer_state.json`. Public for the tests with hostile input.
///
/// # Errors
/// The file cannot be read, is not a trainer state, or holds values that no run can produce.
pub fn read_trainer_state(path: &Path) -> Result<TrainerState, CheckpointError> {
    let damaged = |message: String| CheckpointError::Damaged { path: path.to_owned(), message };
    let text = read_plain(path, MAX_STATE_BYTES).map_err(|source| io(path, source))?;
    let state: TrainerState = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if state.global_step > state.max_steps {
        let (done, all) = (state.global_step, state.max_steps);
        return Err(damaged(format!("field \"global_step\": expected at most max_steps, {all}, found {done}")));
    }
    if let Some(best) = state.standing.best.filter(|best| best.step > state.global_step) {
        let (best, done) = (best.step, state.global_step);
        return Err(damaged(format!("field \"best\": expected at most global_step, {done}, found {best}")));
    }
    if !(state.epoch >= 0.0 && state.epoch.is_finite()) {
        return Err(damaged(format!("field \"epoch\": expected a number of at least 0, found {}", state.epoch)));
    }
    Ok(state)
}

/// Checkpoints by their step, oldest first.
fn checkpoints(run: &Path) -> Result<Vec<(usize, PathBuf)>, CheckpointError> {
    if !run.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(run).map_err(|source| io(run, source))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|source| io(run, source))?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let step = name.strip_prefix(PREFIX).and_then(|number| number.parse::<usize>().ok());
        // Not `checkpoint-007`, which no run writes.
        if let Some(step) = step.filter(|step| name == format!("{PREFIX}{step}")) {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Removes what the checkpoint of `step`, just written, supersedes: earlier interim ones, and the oldest beyond the limit.
/// Later ones must be damaged, or this step would not have been repeated: they do not count, and displace no intact one. The
/// best, a folder that is not ours and one that holds somebody's files too stay and do not count either.
fn remove_superseded(run: &Path, step: usize, kept: &Kept<'_>) -> Result<(), WriteError> {
    let all = checkpoints(run).unwrap_or_default();
    let (interim, regular): (Vec<_>, Vec<_>) = all
        .into_iter()
        .filter(|(other, path)| *other <= step && Some(*other) != kept.best && check_ours(path).is_ok())
        .partition(|(other, path)| *other < step && read_state(path).is_ok_and(|state| state.interim));
    let excess = kept.limit.map_or(0, |limit| regular.len().saturating_sub(limit.max(1)));
    interim.iter().chain(&regular[..excess]).try_for_each(|(_, path)| remove_sealed(path, &known(path)))
}

fn io(path: &Path, source: std::io::Error) -> CheckpointError {
    CheckpointError::Io { path: path.to_owned(), source }
}
