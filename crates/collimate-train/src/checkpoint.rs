//! Checkpoints: written beside their place, synced, then renamed, so that one that exists is whole.

use std::fs;
use std::path::{Path, PathBuf};

use collimate_model::StorageDtype;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::plain_file::read_text;
use crate::session::Session;

const STATE_FILE: &str = "trainer_state.json";
const PREFIX: &str = "checkpoint-";
/// The largest state, in bytes; it has six fields.
const MAX_STATE_BYTES: u64 = 1 << 20;

/// Where a run stands, as `trainer_state.json` keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainerState {
    /// Finished optimizer steps.
    pub global_step: usize,
    /// Passes over the data so far.
    pub epoch: f64,
    /// Optimizer steps of the whole run.
    pub max_steps: usize,
    /// Tokens of all batches so far, a shared prompt counted once.
    pub num_tokens: u64,
    /// Steps that were left out because a figure was not finite.
    pub num_skipped_steps: usize,
    /// Hash of what a resumed run must have in common with this one.
    pub fingerprint: String,
}

/// Writes `checkpoint-N` into the run's folder and removes the oldest ones over the limit.
///
/// # Errors
/// The folder cannot be written; what was there before stays.
pub(crate) fn save(
    run: &Path,
    session: &dyn Session,
    state: &TrainerState,
    recipe_yaml: &str,
    limit: Option<usize>,
) -> Result<PathBuf, TrainError> {
    let path = run.join(format!("{PREFIX}{}", state.global_step));
    let staging = tempfile::Builder::new()
        .prefix(".checkpoint-")
        .tempdir_in(run)
        .map_err(|source| TrainError::io(run, source))?;
    session.save_model(staging.path(), StorageDtype::F32)?;
    session.save_optimizer(staging.path())?;
    write_synced(&staging.path().join("recipe.yaml"), recipe_yaml)?;
    let json = serde_json::to_string_pretty(state).unwrap_or_default();
    write_synced(&staging.path().join(STATE_FILE), &(json + "\n"))?;
    if path.exists() {
        fs::remove_dir_all(&path).map_err(|source| TrainError::io(&path, source))?;
    }
    let staged = staging.keep();
    fs::rename(&staged, &path).map_err(|source| TrainError::io(&path, source))?;
    sync(run)?;
    if let Some(limit) = limit {
        remove_oldest(run, limit.max(1))?;
    }
    Ok(path)
}

/// The newest checkpoint of a run, if it has one.
///
/// # Errors
/// The run's folder cannot be read, or the checkpoint's state is damaged.
pub(crate) fn newest(run: &Path) -> Result<Option<(PathBuf, TrainerState)>, TrainError> {
    let Some((_, path)) = checkpoints(run)?.pop() else { return Ok(None) };
    let state = read_trainer_state(&path.join(STATE_FILE))?;
    Ok(Some((path, state)))
}

/// Reads a `trainer_state.json`. Public for the tests that give it hostile input.
///
/// # Errors
/// The file cannot be read, is no such state, or says what no run can say.
pub fn read_trainer_state(path: &Path) -> Result<TrainerState, TrainError> {
    let damaged = |message: String| TrainError::Checkpoint { path: path.to_owned(), message };
    let text = read_text(path, MAX_STATE_BYTES).map_err(|source| TrainError::io(path, source))?;
    let state: TrainerState = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if state.global_step > state.max_steps {
        let (done, all) = (state.global_step, state.max_steps);
        return Err(damaged(format!("field \"global_step\": expected at most max_steps, {all}, found {done}")));
    }
    if !(state.epoch >= 0.0 && state.epoch.is_finite()) {
        return Err(damaged(format!("field \"epoch\": expected a number of at least 0, found {}", state.epoch)));
    }
    Ok(state)
}

/// Checkpoints by their step, oldest first.
fn checkpoints(run: &Path) -> Result<Vec<(usize, PathBuf)>, TrainError> {
    if !run.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(run).map_err(|source| TrainError::io(run, source))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|source| TrainError::io(run, source))?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some(step) = name.strip_prefix(PREFIX).and_then(|n| n.parse().ok()) {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}

fn remove_oldest(run: &Path, limit: usize) -> Result<(), TrainError> {
    let all = checkpoints(run)?;
    for (_, path) in &all[..all.len().saturating_sub(limit)] {
        fs::remove_dir_all(path).map_err(|source| TrainError::io(path, source))?;
    }
    Ok(())
}

fn write_synced(path: &Path, text: &str) -> Result<(), TrainError> {
    fs::write(path, text).map_err(|source| TrainError::io(path, source))?;
    sync(path)
}

fn sync(path: &Path) -> Result<(), TrainError> {
    let file = fs::File::open(path).map_err(|source| TrainError::io(path, source))?;
    file.sync_all().map_err(|source| TrainError::io(path, source))
}
