//! Finds or makes the tokens of a recipe's data before any compute.

use std::path::Path;

use collimate_chat::ChatDefaults;
use collimate_data::{LoadOptions, ScoreDirection};
use collimate_machine::memory_limit;
use collimate_recipe::{DataSources, MemoryBudget, Recipe};
use collimate_store::{DataRequest, Encoder, GroupStore, MixOptions, Preparation, StoreError, StoreFolder};
use collimate_text::{TextTokenizer, TokenizeOptions, TokenizerChanges};

use crate::error::TrainError;
use crate::most_responses::most_responses;
use collimate_progress::Observer;

/// Loads and tokenizes a file as the recipe says.
///
/// # Errors
/// A row cannot be used (the error names file, line and field), or a file has no usable groups.
pub fn prepare(
    recipe: &Recipe,
    path: &Path,
    tokenizer: &TextTokenizer,
    min_responses: usize,
    observer: &mut dyn Observer,
) -> Result<GroupStore, TrainError> {
    let (store_folder, sources) = (store_folder(recipe), path.to_owned().into());
    let request = DataRequest { hold_out: 0.0, ..training_request(recipe, &sources, min_responses)? };
    let encoder = encoder(recipe, tokenizer, min_responses);
    Ok(Preparation::begin(request, encoder, &store_folder, false, observer)?.finish(observer)?.training)
}

impl From<StoreError> for TrainError {
    fn from(error: StoreError) -> Self {
        let recipe_value = |key, message| TrainError::RecipeValue { key, message };
        match error {
            StoreError::Data(error) => error.into(),
            StoreError::Text(error) => error.into(),
            StoreError::Write(error) => error.into(),
            StoreError::Unusable { path, line, reason } => TrainError::Unusable { path, line, reason },
            StoreError::NoGroups { name } => TrainError::NoGroups { path: name.into() },
            error @ StoreError::HoldOut { .. } => recipe_value("eval_fraction", error.to_string()),
            error @ StoreError::Memory { .. } => recipe_value("memory_budget", format!("is too little: {error}")),
            StoreError::TextPrompt { location } => {
                recipe_value("system_prompt", format!("is for conversations, but the prompt of {location} is text"))
            }
            error => TrainError::Tokens(error),
        }
    }
}

/// Where the tokens of a run are kept.
pub(crate) fn store_folder(recipe: &Recipe) -> StoreFolder {
    StoreFolder::new(recipe.token_cache.folder("tokens"))
}

/// Training data: the recipe's fractions, filters and limit, and what it holds out.
///
/// # Errors
/// An unknown layout, reward rule or normalization.
pub(crate) fn training_request<'a>(
    recipe: &Recipe,
    sources: &'a DataSources,
    min_responses: usize,
) -> Result<DataRequest<'a>, TrainError> {
    let mix = MixOptions {
        load: load_options(recipe, min_responses)?,
        min_reward_gap: recipe.min_reward_gap,
        drop_ties: recipe.drop_ties,
        max_samples: recipe.max_samples,
        seed: recipe.seed,
    };
    Ok(request(sources, mix, if recipe.eval_data.is_none() { recipe.eval_fraction } else { 0.0 }))
}

/// Evaluation data of its own: the fractions of its files, but not the training data's filters.
///
/// # Errors
/// As [`training_request`].
pub(crate) fn evaluation_request<'a>(
    recipe: &Recipe,
    sources: &'a DataSources,
    min_responses: usize,
) -> Result<DataRequest<'a>, TrainError> {
    let load = load_options(recipe, min_responses)?;
    Ok(request(sources, MixOptions { load, seed: recipe.seed, ..MixOptions::default() }, 0.0))
}

fn request(sources: &DataSources, mix: MixOptions, hold_out: f64) -> DataRequest<'_> {
    DataRequest { name: sources.to_string(), parts: sources.parts(), mix, hold_out, memory: None }
}

/// How the recipe turns text into tokens.
pub(crate) fn encoder<'a>(recipe: &Recipe, tokenizer: &'a TextTokenizer, min_responses: usize) -> Encoder<'a> {
    let options = TokenizeOptions {
        max_length: recipe.max_length,
        max_prompt_length: recipe.max_prompt_length,
        max_response_length: recipe.max_completion_length,
        skip_unusable: recipe.skip_unusable,
        skip_long_prompts: recipe.skip_long_prompts,
        min_responses,
    };
    Encoder::Tokenizer { tokenizer, options, has_system_prompt: recipe.system_prompt.is_some() }
}

/// Bytes of memory that limits on texts follow: texts are on the machine, whatever device computes.
fn text_memory(budget: MemoryBudget) -> u64 {
    let machine = memory_limit().map(|limit| limit.bytes);
    let bytes = [budget, MemoryBudget::Auto].into_iter().filter_map(|budget| budget.bytes(machine));
    bytes.min().unwrap_or(0)
}

/// What the recipe changes about the model's tokenizer.
pub fn tokenizer_changes(recipe: &Recipe) -> TokenizerChanges {
    TokenizerChanges {
        chat_template: recipe.chat_template.clone(),
        chat_template_path: recipe.chat_template_path.clone(),
        eos_token: recipe.eos_token.clone(),
        defaults: ChatDefaults {
            system_prompt: recipe.system_prompt.clone(),
            kwargs: recipe.chat_template_kwargs.get().clone(),
        },
        memory: text_memory(recipe.memory_budget),
    }
}

/// The recipe's options for reading a file of groups.
///
/// # Errors
/// An unknown layout, reward rule or normalization.
pub fn load_options(recipe: &Recipe, min_responses: usize) -> Result<LoadOptions, TrainError> {
    fn parsed<T: std::str::FromStr>(key: &'static str, text: Option<&String>) -> Result<Option<T>, TrainError>
    where
        T::Err: std::fmt::Display,
    {
        let parse = |text: &String| {
            text.parse().map_err(|error: T::Err| TrainError::RecipeValue { key, message: error.to_string() })
        };
        text.map(parse).transpose()
    }
    Ok(LoadOptions {
        layout: parsed("data_layout", recipe.data_layout.as_ref())?,
        fields: None,
        direction: recipe.higher_is_better.map(|higher| match higher {
            true => ScoreDirection::HigherIsBetter,
            false => ScoreDirection::LowerIsBetter,
        }),
        reward_from: parsed("reward_from", recipe.reward_from.as_ref())?,
        normalize: parsed("normalize", recipe.normalize.as_ref())?,
        skip_unusable: recipe.skip_unusable,
        max_samples: None,
        min_responses,
        most_responses: Some(most_responses(recipe)?),
        label_conflicts: recipe.label_conflicts,
        ignore_fields: recipe.ignore_fields.get().to_vec(),
        needs_rewards: true,
        // An objective of one response imitates the best one.
        needs_good_response: min_responses < 2,
    })
}
