//! Options that name a recipe and set keys of it, for verbs beside `train`.

use std::path::PathBuf;

use collimate_recipe::{Origin, Recipe, RecipeError};
use collimate_train::{TrainError, load_recipe_from};

use crate::error::CliError;
use crate::io::Io;

/// A recipe and what is set over it.
#[derive(Debug, clap::Args)]
pub(crate) struct RecipeOptions {
    /// Recipe file; `collimate recipe-keys` lists what it may say
    recipe: Option<PathBuf>,
    /// Model folder in the Hugging Face layout, or its name on the hub
    #[arg(long, value_name = "DIR")]
    model: Option<String>,
    /// Objective, with its default parameters (see `collimate objectives`)
    #[arg(long, value_name = "NAME")]
    objective: Option<String>,
    /// Any key of the recipe; `objective.NAME=VALUE` for an objective's parameter
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Compute backend (see `collimate backends`)
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
}

impl RecipeOptions {
    /// The recipe with these options over it, and `others` over them; `--set` wins over all.
    pub(crate) fn load(&self, others: &[(&str, &Option<String>)], io: &mut Io<'_>) -> Result<Recipe, CliError> {
        let overrides = self.overrides(others);
        Ok(load_recipe_from(self.recipe.as_deref(), &overrides, &io.hub)?.recipe)
    }

    /// The options as `key=value`, in the order in which they are applied.
    fn overrides(&self, others: &[(&str, &Option<String>)]) -> Vec<(String, String)> {
        let named = [("model_name_or_path", &self.model), ("objective", &self.objective), ("backend", &self.backend)];
        let named = named.iter().chain(others).filter_map(|(key, value)| Some(((*key).to_owned(), (*value).clone()?)));
        named.chain(self.set.iter().cloned()).collect()
    }

    /// An error about a recipe's value at its place, where the recipe's file has it.
    pub(crate) fn at_key(&self, error: TrainError) -> CliError {
        let TrainError::RecipeValue { key, message } = error else { return error.into() };
        let overridden = self.set.iter().any(|(name, _)| name == key);
        let origin = self.recipe.as_ref().filter(|_| !overridden).and_then(|path| Origin::find(path, key, None));
        let origin = origin.unwrap_or(Origin::Unnamed);
        RecipeError::Value { origin, key: key.to_owned(), problem: message }.into()
    }
}

/// For clap: `KEY=VALUE`.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}
