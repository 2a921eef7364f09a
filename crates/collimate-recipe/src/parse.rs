//! Reading a recipe: the file first, then `key=value` pairs, then checks.

mod bitsandbytes;
mod loader;
mod other_keys;
mod switches;

use std::collections::BTreeMap;
use std::path::Path;

use collimate_files::read_text;

use crate::error::{Origin, RecipeError};
use crate::foreign::Notes;
use crate::limits::MAX_RECIPE_BYTES;
use crate::locate::SourceText;
use crate::mixture::DataMixture;
use crate::recipe::Recipe;
use crate::sources::DataSources;
use crate::trl::TrlDefaults;
use loader::Loader;

/// A recipe whose keys are read and checked, but whose paths and names have not been looked up.
#[derive(Debug)]
pub struct ParsedRecipe {
    /// The keys. Paths are as written; `data` is absent if a mixture takes its place.
    pub recipe: Recipe,
    /// Data as TRL and the alignment handbook name it.
    pub mixture: Option<DataMixture>,
    /// Whether to compute in bfloat16 if the device can: `bf16: true` without `compute_dtype`. Recipes of other trainers
    /// mostly carry that key and are run on any machine, so it is a preference; `compute_dtype` insists.
    pub prefers_bfloat16: bool,
    /// Branch, tag or commit of the model, if it is on the hub.
    pub model_revision: Option<String>,
    notes: Notes,
    origins: BTreeMap<String, Origin>,
}

impl ParsedRecipe {
    /// Where a key was set.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Unnamed)
    }

    /// Whether the recipe or an argument set a key.
    pub fn is_set(&self, key: &str) -> bool {
        self.origins.contains_key(key)
    }

    /// An error about the value of a key, with its origin.
    pub fn value_error(&self, key: &str, problem: String) -> RecipeError {
        RecipeError::Value { origin: self.origin(key), key: key.to_owned(), problem }
    }

    /// Records what is done instead of what a key of another trainer asks for.
    pub fn note_instead(&mut self, key: &str, what: &str) {
        self.notes.instead(key, what);
    }

    /// What to tell the user about keys of other trainers: one line if TRL's defaults apply, one for keys without effect, one
    /// for those whose wish is met in another way.
    pub fn notes(&self) -> Vec<String> {
        self.notes.lines()
    }
}

impl Recipe {
    /// Reads a recipe from a file, or starts from the defaults, and applies `key=value` pairs over it.
    ///
    /// # Errors
    /// [`RecipeError`] with the location: unreadable file, unknown key, wrong type, value out of range. The model and the
    /// data may be absent here; see [`Recipe::model`] and [`Recipe::data_sources`].
    pub fn parse(path: Option<&Path>, overrides: &[(String, String)]) -> Result<ParsedRecipe, RecipeError> {
        Self::parse_with(path, overrides, &TrlDefaults::default())
    }

    /// [`Recipe::parse`] with a say in whether what the recipe leaves out has TRL's defaults or ours.
    ///
    /// # Errors
    /// As [`Recipe::parse`].
    pub fn parse_with(
        path: Option<&Path>,
        overrides: &[(String, String)],
        defaults: &TrlDefaults,
    ) -> Result<ParsedRecipe, RecipeError> {
        let mut loader = Loader::default();
        if let Some(path) = path {
            let text = read_text(path, MAX_RECIPE_BYTES);
            let text = text.map_err(|source| RecipeError::Io { path: path.to_owned(), source })?;
            loader.file(&SourceText { path, text: text.into() })?;
        }
        let arguments: Vec<&str> = overrides.iter().map(|(key, _)| key.as_str()).collect();
        loader.decide(defaults, &arguments)?;
        for (key, value) in overrides {
            loader.argument(key, value)?;
        }
        loader.finish()
    }

    /// The model.
    ///
    /// # Errors
    /// [`RecipeError::Missing`] if none was given.
    pub fn model(&self) -> Result<&Path, RecipeError> {
        let missing = RecipeError::Missing { what: "model", key: "model_name_or_path", option: "--model DIR" };
        self.model_name_or_path.as_deref().ok_or(missing)
    }

    /// The training data.
    ///
    /// # Errors
    /// [`RecipeError::Missing`] if none was given.
    pub fn data_sources(&self) -> Result<&DataSources, RecipeError> {
        self.data.as_ref().ok_or(RecipeError::Missing { what: "data", key: "data", option: "--data FILE" })
    }
}
