//! Writes a model with an adapter merged at a strength.

use std::path::Path;

use collimate_files::WriteError;
use collimate_finished::TrainedRun;
use collimate_peft::{Adapter, MergeOptions, StagedMerge, stage_merge};
use collimate_train::TrainError;
use collimate_weights::read_config;

use crate::measure::check_strength;

/// Merges the adapter of a run at this strength, as `collimate merge` does with the trained one: at 1 the same bytes.
///
/// # Errors
/// The adapter has no strength; its files or the model's cannot be read; something is at `output`, or it cannot be written.
pub fn stage_merge_at(
    run: &TrainedRun,
    strength: f64,
    output: &Path,
    options: MergeOptions,
) -> Result<StagedMerge, TrainError> {
    check_strength(run)?;
    let adapter = Adapter::read(&run.folder, &read_config(&run.model)?)?.at_strength(strength);
    let scratch = tempfile::tempdir().map_err(WriteError::at(&std::env::temp_dir()))?;
    adapter.write(scratch.path())?;
    Ok(stage_merge(&run.model, scratch.path(), output, options)?)
}
