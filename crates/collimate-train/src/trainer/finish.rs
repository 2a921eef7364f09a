//! Writes a finished run's model, its card, and the report.

use std::path::Path;

use collimate_disk::storage_dtype;
use collimate_files::read_text;
use collimate_files::write_atomically;
use collimate_objective::registry;
use collimate_quantized::Format;
use collimate_recipe::Recipe;
use collimate_report::{
    CardInput, MetricsRow, Rounding, RunFiles, license_of, read_metrics, render_card, write_report_from,
};
use collimate_weights::{StorageDtype, copy_side_files, read_config};

use super::TrainSummary;
use crate::error::TrainError;
use crate::prepare::tokenizer_changes;
use collimate_session::{Session, quantization};

/// Size limit of a base model's card that is searched for its license, in bytes.
const MAX_CARD_BYTES: u64 = 4 << 20;

/// Writes the final model or adapter, reads it back, and writes its documents.
pub(super) fn finish(
    recipe: &Recipe,
    session: &dyn Session,
    model: &Path,
    summary: &TrainSummary,
) -> Result<(), TrainError> {
    let out = &recipe.output_dir;
    let dtype = match summary.rounding.as_ref().is_some_and(Rounding::keeps_float32) {
        true => StorageDtype::F32,
        false => storage_dtype(recipe, session.config()),
    };
    // Before the model, which adds the ends of turns to what its `generation_config.json` names.
    copy_side_files(model, out)?;
    for (name, text) in tokenizer_changes(recipe).files(out)? {
        write_atomically(&out.join(name), text.as_bytes())?;
    }
    session.save_model(out, dtype, recipe.max_shard_size)?;
    session.check_saved(out, dtype)?;

    write_documents(recipe, summary)
}

/// Writes the model card and the report of a finished run, from its metrics and its `results.json` if it has one.
///
/// # Errors
/// A file of the run cannot be read or written.
pub fn write_documents(recipe: &Recipe, summary: &TrainSummary) -> Result<(), TrainError> {
    let out = &recipe.output_dir;
    let files = RunFiles::read(out)?;
    let objective = registry::find(&recipe.objective.name)?;
    let base = recipe.model_name_or_path.as_deref();
    let license = base.and_then(|base| license_of(&read_text(&base.join("README.md"), MAX_CARD_BYTES).ok()?));
    let saved = match &summary.best {
        Some(best) => evaluation_after(out, best.step)?,
        None => None,
    };
    let card = render_card(&CardInput {
        recipe,
        base: &base.map_or_else(|| "unknown".to_owned(), base_name),
        summary: objective.summary,
        paper: objective.paper,
        base_hash: summary.base_hash.as_deref(),
        base_packing: base_packing(recipe),
        license: license.as_deref(),
        num_groups: summary.num_groups,
        num_steps: summary.num_steps,
        history: &files.history,
        saved: saved.as_ref(),
        results: files.results.as_ref(),
    });
    write_atomically(&out.join("README.md"), card.as_bytes())?;
    write_report_from(&files, out)?;
    Ok(())
}

/// The row of the evaluation after a step of a run.
fn evaluation_after(out: &Path, step: usize) -> Result<Option<MetricsRow>, TrainError> {
    let rows = read_metrics(&out.join("metrics.jsonl"))?;
    let is_it = |row: &MetricsRow| row.get("step") == Some(step as f64) && row.get("eval_loss").is_some();
    Ok(rows.into_iter().rfind(is_it))
}

/// The format in which the weights of a recipe's model are packed: as its files are, or as the recipe asks.
pub(super) fn base_packing(recipe: &Recipe) -> Option<&'static str> {
    let stored = || read_config(recipe.model_name_or_path.as_deref()?).ok()?.packing();
    quantization(recipe).or_else(stored).map(Format::name)
}

/// The name of a model: its name on the hub with the commit if it is in the hub's cache, else its folder's name.
pub(super) fn base_name(path: &Path) -> String {
    let folder = || path.file_name().map_or_else(|| path.display().to_string(), |name| name.display().to_string());
    collimate_hub::name_of_snapshot(path).unwrap_or_else(folder)
}
