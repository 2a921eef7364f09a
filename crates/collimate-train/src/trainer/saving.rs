//! What the end of a run needs, found before its first step.

use std::fs;
use std::path::Path;

use collimate_disk::storage_dtype;
use collimate_hf::HfError;
use collimate_recipe::Recipe;
use collimate_report::read_results;
use collimate_weights::{StorageDtype, WeightFiles, check_output, read_config, side_files};

use super::folder::is_ours;
use crate::error::TrainError;

/// Checks everything that the end of a run reads and writes: the model's tokenizer files can be copied, and in the output
/// folder nothing is in the way.
///
/// # Errors
/// A file of the model that is copied cannot be read or is not the model's; the output folder holds weights that are not
/// overwritten, a folder in the place of a file, or damaged results.
pub(super) fn check_saving(recipe: &Recipe, model: &Path) -> Result<(), TrainError> {
    let out = &recipe.output_dir;
    side_files(model)?;
    let mut entries = fs::read_dir(out).into_iter().flatten().flatten();
    if let Some(entry) =
        entries.find(|entry| is_ours(out, &entry.file_name().to_string_lossy()) && entry.path().is_dir())
    {
        return Err(HfError::NotAFile { path: entry.path() }.into());
    }
    read_results(out)?;
    if recipe.use_peft {
        return Ok(());
    }
    let config = read_config(model)?;
    // What stands beside a text model is written too.
    let base = config.wrapper.map(|_| WeightFiles::open(model)).transpose()?;
    let fits = |dtype| check_output(out, &config, base.as_ref(), dtype, recipe.max_shard_size);
    // What is saved may turn out to be float32, in other files than those of the recipe's dtype.
    match fits(storage_dtype(recipe, &config)) {
        Ok(()) => Ok(()),
        Err(error) => Ok(fits(StorageDtype::F32).map_err(|_| error)?),
    }
}
