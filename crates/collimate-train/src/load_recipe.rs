//! Loads a recipe: `collimate-resolve` finds its files, and what depends on the backend is decided here.

use std::path::Path;

use collimate_backend::{ComputeDtype, check_dtype, multiplies_in};
use collimate_hub::{Hub, HubOptions};
use collimate_recipe::{ParsedRecipe, Recipe, TrlDefaults};
use collimate_resolve::{LoadedRecipe, resolve};
use collimate_session::backend_name;

use crate::TrainError;

/// Reads a recipe from a file, or starts from the defaults, applies `key=value` pairs and finds its files as [`resolve`] does.
///
/// The environment configures access to the hub. A recipe that would like bfloat16 computes in it if its backend multiplies
/// such numbers on this machine, which only this crate knows; otherwise a note says so.
///
/// # Errors
/// As [`load_recipe_from`].
pub fn load_recipe(path: Option<&Path>, overrides: &[(String, String)]) -> Result<Recipe, TrainError> {
    load_recipe_from(path, overrides, &Hub::new(HubOptions::from_env())).map(|loaded| loaded.recipe)
}

/// Like [`load_recipe`]; names that are not paths are looked up on this hub.
///
/// # Errors
/// [`TrainError::Recipe`] as [`Recipe::parse`]; [`TrainError::Resolve`] as [`resolve`].
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
    if parsed.prefers_bfloat16 {
        compute_in_bfloat16(&mut parsed);
    }
    Ok(resolve(parsed, path, hub)?)
}

fn compute_in_bfloat16(parsed: &mut ParsedRecipe) {
    let dtype = ComputeDtype::Bfloat16;
    let backend = backend_name(&parsed.recipe).to_owned();
    // In bfloat16 without bfloat16 products a run would round more and be no faster.
    let has = check_dtype(&backend, parsed.recipe.device, dtype).and_then(|()| multiplies_in(&backend, dtype));
    match has {
        Ok(true) => parsed.recipe.compute_dtype = dtype.name().to_owned(),
        Ok(false) | Err(_) => {
            let saved = match parsed.recipe.torch_dtype.as_deref() {
                Some("bfloat16") => "; what is saved is bfloat16",
                _ => "",
            };
            parsed.note_instead("bf16", &format!("{backend} computes in float32{saved}"));
        }
    }
}
