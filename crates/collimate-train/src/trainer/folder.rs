//! Decides which folder a run may be written to.

use std::fs;
use std::path::Path;

use collimate_files::{FolderError, OutputFolder, is_there};
use collimate_gallery::PICTURE_FILES;
use collimate_recipe::Recipe;
use collimate_report::{Gallery, LengthSample, RunInfo, Samples, has_resolved_recipe};
use collimate_weights::is_model_file;

use crate::error::TrainError;

/// Files that a run writes beside those of its model.
const DOCUMENTS: [&str; 10] = [
    "README.md",
    "report.html",
    "run.json",
    "results.json",
    "recipe.yaml",
    "lengths.json",
    "samples.json",
    "pictures.json",
    PICTURE_FILES[0],
    PICTURE_FILES[1],
];
/// A run's rows: who has one has begun.
const METRICS: &str = "metrics.jsonl";
/// What a run writes before its first row, so that one that was killed or failed may have left it.
const EARLY: [&str; 8] = [
    "run.json",
    "recipe.yaml",
    "lengths.json",
    "samples.json",
    "pictures.json",
    PICTURE_FILES[0],
    METRICS,
    "report.html",
];

/// Checks that nothing is overwritten in a run's folder but an earlier start of the same run, or the run that is resumed: the
/// folder is none of those that the run reads, holds no other run, nobody's model and nobody's documents, and everything of
/// the run's in it is a plain file.
///
/// # Errors
/// The folder is one that is read, holds another run or something of somebody's, or a link or the like among the run's files.
pub fn check_folder(recipe: &Recipe, resume: bool) -> Result<(), TrainError> {
    let out = &recipe.output_dir;
    collimate_checkpoint::check_names(out)?;
    let has_run = is_there(&out.join(METRICS)) || collimate_checkpoint::has_any(out)?;
    let given = [
        ("model", recipe.model_name_or_path.as_deref()),
        ("adapter", recipe.adapter.as_deref()),
        ("reference", recipe.reference.as_deref().map(Path::new)),
    ];
    let reads: Vec<_> = given.into_iter().filter_map(|(what, path)| Some((what, path?))).collect();
    let writes = |name: &str| is_ours(out, name);
    let folder = OutputFolder { path: out, reads: &reads, writes: &writes };
    let is_own = match (resume, has_run) {
        (true, _) => has_run || out.join("recipe.yaml").is_file() || is_early(out, recipe),
        (false, _) => !collimate_checkpoint::has_any(out)? && is_early(out, recipe),
    };
    match folder.check(is_own) {
        // A run has its own words: how to go on with it.
        Err(FolderError::Holds { .. }) if has_run => Err(TrainError::OutputTaken { path: out.clone() }),
        checked => Ok(checked?),
    }
}

/// Whether a run writes under this name.
pub(super) fn is_ours(out: &Path, name: &str) -> bool {
    // Checkpoints have a check of their own, and new files of events are put beside those that are there.
    let is_events = name == "tensorboard" && !fs::symlink_metadata(out.join(name)).is_ok_and(|found| found.is_dir());
    is_events || name == METRICS || DOCUMENTS.contains(&name) || is_model_file(name)
}

/// Whether what a folder has of a run's files is what a run leaves that ended before its first row.
fn is_early(out: &Path, recipe: &Recipe) -> bool {
    let entries = fs::read_dir(out).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut ours = names.filter(|name| is_ours(out, name)).peekable();
    ours.peek().is_some() && ours.all(|name| EARLY.contains(&&*name) && is_own_document(out, recipe, &name))
}

/// Whether a file holds what a run writes into it.
fn is_own_document(out: &Path, recipe: &Recipe, name: &str) -> bool {
    match name {
        "run.json" => RunInfo::read(out).is_some(),
        "lengths.json" => LengthSample::read(out).is_some(),
        "samples.json" => Samples::read(out).is_some(),
        // Listed beside it, or written just before the list.
        "pictures.json" => Gallery::read(out).is_some(),
        file if PICTURE_FILES.contains(&file) => is_there(&out.join("run.json")) && RunInfo::read(out).is_some(),
        METRICS => fs::symlink_metadata(out.join(name)).is_ok_and(|rows| rows.is_file() && rows.len() == 0),
        // Made of the others.
        "report.html" => is_there(&out.join(METRICS)) && RunInfo::read(out).is_some(),
        _ => has_resolved_recipe(out, recipe),
    }
}
