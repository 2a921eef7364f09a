//! What other verbs than `train` take from a recipe: its data, model and settings of text.

use std::path::{Path, PathBuf};

use collimate_recipe::Recipe;
use collimate_text::{TextTokenizer, TokenizeOptions};
use collimate_train::{load_options, load_recipe_from, tokenizer_changes};

use super::data_options::{DataOptions, LengthOptions};
use crate::error::CliError;
use crate::inputs::model_folder;
use crate::io::Io;

/// Loads a recipe, and says whose defaults it has.
pub(crate) fn load(path: &Path, io: &mut Io<'_>) -> Result<Recipe, CliError> {
    let loaded = load_recipe_from(Some(path), &[], &io.hub)?;
    for note in loaded.notes.iter().filter(|note| note.starts_with("TRL ") || note.starts_with("warning: ")) {
        io.note(format_args!("{note}"));
    }
    Ok(loaded.recipe)
}

/// What a data verb was given.
pub(crate) struct Given {
    pub(crate) recipe: Option<PathBuf>,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) model: Option<PathBuf>,
    pub(crate) read: DataOptions,
    pub(crate) lengths: LengthOptions,
}

/// What a data verb reads, and how.
pub(crate) struct Reading {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) read: DataOptions,
    pub(crate) tokenizer: Option<TextTokenizer>,
    pub(crate) options: TokenizeOptions,
}

impl Given {
    /// Takes from the recipe, if there is one, what the options leave out. Groups need at least `min_responses` responses.
    ///
    /// # Errors
    /// The recipe cannot be loaded, a length is zero, or the model's tokenizer cannot be opened.
    pub(crate) fn resolve(self, min_responses: usize, io: &mut Io<'_>) -> Result<Reading, CliError> {
        let Self { recipe, mut files, mut model, mut read, mut lengths } = self;
        let recipe = recipe.map(|path| load(&path, io)).transpose()?;
        if let Some(recipe) = &recipe {
            if files.is_empty() {
                files = recipe.data_sources()?.parts().iter().map(|part| part.path.clone()).collect();
            }
            model = model.or_else(|| recipe.model_name_or_path.clone());
            read.fill_in(&load_options(recipe, min_responses)?);
            lengths.max_length = lengths.max_length.or(recipe.max_length);
            lengths.max_prompt_length = lengths.max_prompt_length.or(recipe.max_prompt_length);
        }
        let mut options = lengths.resolve(&read, min_responses)?;
        if let Some(recipe) = &recipe {
            options.max_response_length = recipe.max_completion_length;
            options.skip_long_prompts = recipe.skip_long_prompts;
        }
        let changes = tokenizer_changes(&recipe.unwrap_or_default());
        let folder = model.map(|model| model_folder(&model, io)).transpose()?;
        let tokenizer = folder.map(|folder| changes.open(&folder)).transpose()?;
        Ok(Reading { files, read, tokenizer, options })
    }
}
