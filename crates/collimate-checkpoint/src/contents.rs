//! Which files a checkpoint has, so that none is missing from its checksums and nothing else is taken for one.

use std::fs;
use std::path::Path;

use collimate_files::{CHECKSUMS_FILE, WriteError, check_sealed, read_plain};
use serde::{Deserialize, Serialize};

use crate::{MAX_STATE_BYTES, RECIPE_FILE, STATE_FILE, TrainerState};

/// The state, and which files a checkpoint with it needs beside it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Stored {
    #[serde(flatten)]
    pub(crate) state: TrainerState,
    /// Empty in checkpoints of earlier versions.
    #[serde(default)]
    pub(crate) files: Vec<String>,
}

/// The files that the list of checksums must name: those that the state says were there.
pub(crate) fn needed(path: &Path) -> Result<Vec<String>, String> {
    let text = read_plain(&path.join(STATE_FILE), MAX_STATE_BYTES).map_err(|error| format!("{STATE_FILE}: {error}"))?;
    let stored: Stored = serde_json::from_str(&text).map_err(|error| format!("{STATE_FILE}: {error}"))?;
    let own = [STATE_FILE, RECIPE_FILE].map(str::to_owned);
    match stored.files.is_empty() {
        false => Ok(own.into_iter().chain(stored.files).collect()),
        // Written by an earlier version: at least what is there.
        true => Ok(own.into_iter().chain(names_in(path).map_err(|error| error.to_string())?).collect()),
    }
}

/// Checks that a folder is a checkpoint of this program, damaged or not, so that a run may replace or remove it.
pub(crate) fn check_ours(path: &Path) -> Result<(), String> {
    check_sealed(path, &known(path))
}

/// The names that a checkpoint's files have even if its list of checksums is damaged.
pub(crate) fn known(path: &Path) -> Vec<String> {
    let text = read_plain(&path.join(STATE_FILE), MAX_STATE_BYTES).unwrap_or_default();
    let files = serde_json::from_str(&text).map(|stored: Stored| stored.files).unwrap_or_default();
    [STATE_FILE, RECIPE_FILE].map(str::to_owned).into_iter().chain(files).collect()
}

/// The names of a folder's files, without the list of checksums.
pub(crate) fn names_in(folder: &Path) -> Result<Vec<String>, WriteError> {
    let failed = || WriteError::at(folder);
    let names =
        fs::read_dir(folder).map_err(failed())?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<Result<Vec<_>, _>>().map_err(failed())?;
    names.retain(|name| name != CHECKSUMS_FILE);
    names.sort();
    Ok(names)
}
