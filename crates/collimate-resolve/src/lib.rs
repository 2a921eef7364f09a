//! Finds what a recipe names: models, adapters, chat templates and data, on this machine or on the hub.
//!
//! Start at [`resolve`], which turns a parsed recipe into one whose paths exist. Names on the hub are fetched into its cache,
//! folders and patterns become lists of files, mixtures of data sets become the files of their splits, and the settings of an
//! adapter that the run starts from become the recipe's.
//!
//! ```
//! use collimate_hub::{Hub, HubOptions};
//! use collimate_recipe::Recipe;
//! use collimate_resolve::resolve;
//!
//! let folder = tempfile::tempdir()?;
//! std::fs::write(folder.path().join("rewards.jsonl"), "{}\n")?;
//! let file = folder.path().join("recipe.yaml");
//! std::fs::write(&file, "data: rewards.jsonl\n")?;
//!
//! let parsed = Recipe::parse(Some(&file), &[])?;
//! let loaded = resolve(parsed, Some(&file), &Hub::new(HubOptions::from_env()))?;
//! // Looked for beside the recipe.
//! assert_eq!(loaded.recipe.data_sources()?.parts()[0].path, folder.path().join("rewards.jsonl"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! This crate reads of what it finds only an adapter's settings. It must not know backends, tensors, sessions, or what is in
//! the files of a model.

mod error;
mod resolver;
mod splits;
mod start_adapter;
#[cfg(test)]
mod tests;
mod warnings;

use std::cell::RefCell;
use std::path::Path;

use collimate_hub::{Hub, HubOptions};
use collimate_recipe::{ParsedRecipe, Recipe};

pub use error::ResolveError;
use resolver::Resolver;
use splits::find_mixture;

/// A recipe that is ready to run.
#[derive(Debug)]
pub struct LoadedRecipe {
    /// The recipe. Models and data of the hub are named by their folders and files in the cache.
    pub recipe: Recipe,
    /// Messages for the user: commits resolved on the hub, other trainers' keys that have no effect, and warnings.
    pub notes: Vec<String>,
}

/// Finds what a parsed recipe names; names that are not paths are looked up on this hub.
///
/// `path` is the recipe's file. A relative path is looked for in the current folder first, then beside the recipe.
/// `output_dir` is always relative to the current folder. A recipe in its run's folder goes with it: what was in the folder is
/// looked for there, wherever it is now.
///
/// # Errors
/// [`ResolveError::Recipe`] for a path that does not exist, for data without the files that are asked for, and for a key that
/// disagrees with the adapter; [`ResolveError::Hub`]; [`ResolveError::Adapter`].
pub fn resolve(mut parsed: ParsedRecipe, path: Option<&Path>, hub: &Hub) -> Result<LoadedRecipe, ResolveError> {
    parsed.follow_its_run(path)?;
    let mut recipe = parsed.recipe.clone();
    let offline = recipe.offline.then(|| Hub::new(HubOptions { offline: true, ..hub.options().clone() }));
    let resolver = Resolver {
        beside: path.and_then(Path::parent),
        parsed: &parsed,
        hub: offline.as_ref().unwrap_or(hub),
        notes: RefCell::default(),
    };
    resolver.model("model_name_or_path", &mut recipe.model_name_or_path)?;
    resolver.adapter("adapter", &mut recipe.adapter)?;
    start_adapter::adopt(&parsed, &mut recipe)?;
    resolver.chat_template("chat_template_path", &mut recipe.chat_template_path)?;
    resolver.sources("data", &mut recipe.data)?;
    resolver.sources("eval_data", &mut recipe.eval_data)?;
    if let Some(mixture) = &parsed.mixture {
        let files = find_mixture(mixture, &resolver)?;
        recipe.data = Some(files.train);
        recipe.eval_data = recipe.eval_data.or(files.test);
    }
    if let Some(folder) = recipe.reference.take_if(|word| !matches!(word.as_str(), "base" | "start")) {
        recipe.reference = Some(resolver.path("reference", Path::new(&folder))?.display().to_string());
    }
    let fetched = resolver.notes.into_inner();
    let notes = fetched.into_iter().chain(parsed.notes()).chain(warnings::warnings(&parsed, &recipe));
    Ok(LoadedRecipe { notes: notes.collect(), recipe })
}
