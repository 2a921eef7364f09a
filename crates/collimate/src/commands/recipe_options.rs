//! Options for recipes, for verbs other than `train`.

use std::path::PathBuf;

use collimate_recipe::{Origin, Recipe, RecipeError};
use collimate_train::{TrainError, load_recipe_from};

use crate::error::CliError;
use crate::io::Io;

/// A recipe and the settings that override it.
#[derive(Debug, clap::Args)]
pub(crate) struct RecipeOptions {
    /// Recipe file (see `collimate recipe-keys`)
    recipe: Option<PathBuf>,
    /// Hugging Face model folder, or a name on the hub
    #[arg(long, value_name = "DIR")]
    model: Option<String>,
    /// Objective with its default parameters (see `collimate objectives`)
    #[arg(long, value_name = "NAME")]
    objective: Option<String>,
    /// Set any key of the recipe; `objective.NAME=VALUE` sets an objective's parameter
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Compute backend (see `collimate backends`)
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
}

impl RecipeOptions {
    /// Loads the recipe, overridden by these options, then by `others`, then by `--set`.
    pub(crate) fn load(&self, others: &[(&str, &Option<String>)], io: &mut Io<'_>) -> Result<Recipe, CliError> {
        let overrides = self.overrides(others);
        Ok(load_recipe_from(self.recipe.as_deref(), &overrides, &io.hub)?.recipe)
    }

    /// The options as `key=value`, in the order to apply them.
    fn overrides(&self, others: &[(&str, &Option<String>)]) -> Vec<(String, String)> {
        let named = [("model_name_or_path", &self.model), ("objective", &self.objective), ("backend", &self.backend)];
        let named = named.iter().chain(others).filter_map(|(key, value)| Some(((*key).to_owned(), (*value).clone()?)));
        named.chain(self.set.iter().cloned()).collect()
    }

    /// Adds the position in the recipe's file to an error about a value.
    pub(crate) fn at_key(&self, error: TrainError) -> CliError {
        let TrainError::RecipeValue { key, message } = error else { return error.into() };
        let overridden = self.set.iter().any(|(name, _)| name == key);
        let origin = self.recipe.as_ref().filter(|_| !overridden).and_then(|path| Origin::find(path, key, None));
        let origin = origin.unwrap_or(Origin::Unnamed);
        RecipeError::Value { origin, key: key.to_owned(), problem: message }.into()
    }
}

/// A clap value parser for `KEY=VALUE`.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}
