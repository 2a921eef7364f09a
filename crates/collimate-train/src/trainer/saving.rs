//! What the end of a run needs, found before its first step.

use std::path::Path;

use collimate_hf::{HfError, ModelConfig, StorageDtype, check_output, side_files};
use collimate_recipe::Recipe;
use collimate_report::read_results;

use super::storage::storage_dtype;
use crate::error::TrainError;

/// Files that a finished run writes beside its weights and those it copies from its model.
const WRITTEN: [&str; 7] = [
    "README.md",
    "report.html",
    "run.json",
    "config.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "results.json",
];

/// Checks everything that the end of a run reads and writes: the model's tokenizer files can be copied, and in the output
/// folder nothing is in the way.
///
/// # Errors
/// A file of the model that is copied cannot be read or is not the model's; the output folder holds weights that are not
/// overwritten, a folder in the place of a file, or damaged results.
pub(super) fn check_saving(recipe: &Recipe, model: &Path) -> Result<(), TrainError> {
    let out = &recipe.output_dir;
    let copied = side_files(model)?;
    let names = WRITTEN.into_iter().chain(copied.iter().map(|(name, _)| *name));
    if let Some(path) = names.map(|name| out.join(name)).find(|path| path.is_dir()) {
        return Err(HfError::NotAFile { path }.into());
    }
    read_results(out)?;
    if recipe.use_peft {
        return Ok(());
    }
    let config = ModelConfig::from_dir(model)?;
    let fits = |dtype| check_output(out, &config, dtype, recipe.max_shard_size);
    // What is saved may turn out to be float32, in other files than those of the recipe's dtype.
    match fits(storage_dtype(recipe, &config)) {
        Ok(()) => Ok(()),
        Err(error) => Ok(fits(StorageDtype::F32).map_err(|_| error)?),
    }
}
