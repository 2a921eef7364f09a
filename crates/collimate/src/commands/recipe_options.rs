//! Options for recipes, for verbs other than `train`.

use std::path::PathBuf;

use collimate_recipe::{Origin, Recipe, RecipeError};
use collimate_train::{TrainError, load_recipe_with};

use super::trl_options::{TrlOptions, key_value};
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
    #[command(flatten)]
    trl: TrlOptions,
}

impl RecipeOptions {
    /// Loads the recipe, overridden by these options, then by `others`, then by `--set`.
    pub(crate) fn load(&self, others: &[(&str, &Option<String>)], io: &mut Io<'_>) -> Result<Recipe, CliError> {
        let path = self.path()?;
        let overrides = self.trl.around(self.overrides(others));
        let defaults = self.trl.defaults(path.as_deref(), self.objective.is_some());
        let loaded = load_recipe_with(path.as_deref(), &overrides, &defaults, &io.hub)?;
        for note in loaded.notes.iter().filter(|note| note.starts_with("TRL ") || note.starts_with("warning: ")) {
            io.note(format_args!("{note}"));
        }
        Ok(loaded.recipe)
    }

    fn path(&self) -> Result<Option<PathBuf>, CliError> {
        self.trl.recipe(self.recipe.clone())
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
        let path = self.path().ok().flatten();
        let origin = path.as_ref().filter(|_| !overridden).and_then(|path| Origin::find(path, key, None));
        let origin = origin.unwrap_or(Origin::Unnamed);
        RecipeError::Value { origin, key: key.to_owned(), problem: message }.into()
    }
}
