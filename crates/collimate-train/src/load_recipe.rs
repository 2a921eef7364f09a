//! Loads a recipe and resolves its model and data to files on this machine.

mod doubts;
mod resolver;
mod splits;
mod start_adapter;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::path::Path;

use collimate_backend::{BACKENDS, ComputeDtype, check_dtype};
use collimate_hub::{Hub, HubOptions};
use collimate_recipe::{ParsedRecipe, Recipe, TrlDefaults};

use crate::TrainError;
use resolver::Resolver;
use splits::find_mixture;

/// A recipe that is ready to run.
#[derive(Debug)]
pub struct LoadedRecipe {
    /// The recipe. Models and data of the hub are named by their folders and files in the cache.
    pub recipe: Recipe,
    /// Messages for the user: commits resolved on the hub, and other trainers' keys that have no effect.
    pub notes: Vec<String>,
}

/// Reads a recipe from a file, or starts from the defaults, applies `key=value` pairs and finds its files.
///
/// A relative path is looked for in the current folder first, then beside the recipe. `output_dir` is always relative to
/// the current folder. A recipe in its run's folder goes with it: what was in the folder is looked for there, wherever it is now. The environment configures access to the hub.
///
/// # Errors
/// As [`load_recipe_from`].
pub fn load_recipe(path: Option<&Path>, overrides: &[(String, String)]) -> Result<Recipe, TrainError> {
    load_recipe_from(path, overrides, &Hub::new(HubOptions::from_env())).map(|loaded| loaded.recipe)
}

/// Like [`load_recipe`]; names that are not paths are looked up on this hub.
///
/// # Errors
/// [`TrainError::Recipe`] as [`Recipe::parse`], and for a path that does not exist; [`TrainError::Hub`].
pub fn load_recipe_from(
    path: Option<&Path>,
    overrides: &[(String, String)],
    hub: &Hub,
) -> Result<LoadedRecipe, TrainError> {
    load_recipe_with(path, overrides, &TrlDefaults::default(), hub)
}

/// Like [`load_recipe_from`], with a say in whether what the recipe leaves out has TRL's defaults or ours.
///
/// # Errors
/// As [`load_recipe_from`].
pub fn load_recipe_with(
    path: Option<&Path>,
    overrides: &[(String, String)],
    defaults: &TrlDefaults,
    hub: &Hub,
) -> Result<LoadedRecipe, TrainError> {
    let mut parsed = Recipe::parse_with(path, overrides, defaults)?;
    parsed.follow_its_run(path)?;
    if parsed.prefers_bfloat16 {
        compute_in_bfloat16(&mut parsed);
    }
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
    let notes = fetched.into_iter().chain(parsed.notes()).chain(doubts::of(&parsed, &recipe));
    Ok(LoadedRecipe { notes: notes.collect(), recipe })
}

/// The backend that a recipe names, or the first that is compiled in.
pub fn backend_name(recipe: &Recipe) -> &str {
    recipe.backend.as_deref().unwrap_or(BACKENDS[0].name)
}

/// The dtype that a recipe's model computes in.
pub fn compute_dtype(recipe: &Recipe) -> ComputeDtype {
    // Parsing rejects other names.
    ComputeDtype::from_name(&recipe.compute_dtype).unwrap_or_default()
}

fn compute_in_bfloat16(parsed: &mut ParsedRecipe) {
    let dtype = ComputeDtype::Bfloat16;
    let backend = backend_name(&parsed.recipe).to_owned();
    match check_dtype(&backend, parsed.recipe.device, dtype) {
        Ok(()) => parsed.recipe.compute_dtype = dtype.name().to_owned(),
        Err(_) => {
            let saved = match parsed.recipe.torch_dtype.as_deref() {
                Some("bfloat16") => "; what is saved is bfloat16",
                _ => "",
            };
            parsed.note_instead("bf16", &format!("{backend} computes in float32{saved}"));
        }
    }
}
