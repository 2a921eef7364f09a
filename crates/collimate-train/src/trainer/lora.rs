//! The adapter that a recipe asks for.

use collimate_peft::{ByPattern, LayerChoice, LoraConfig, ModuleNames, ModulePattern};
use collimate_recipe::{ExcludedModules, PatternValues, Recipe};

use crate::error::TrainError;

/// Sets what a recipe says about a fresh adapter beyond rank, scale and targets.
///
/// # Errors
/// A pattern is not understood; the error names its key.
pub(super) fn add_settings(recipe: &Recipe, config: &mut LoraConfig) -> Result<(), TrainError> {
    config.dropout = recipe.lora_dropout;
    config.parameters = recipe.lora_target_parameters.0.clone();
    config.use_dora = recipe.use_dora;
    config.modules_to_save = recipe.lora_modules_to_save.0.clone();
    config.exclude = match &recipe.lora_exclude_modules {
        ExcludedModules::Names(names) if names.is_empty() => None,
        ExcludedModules::Names(names) => Some(ModuleNames::Names(names.clone())),
        ExcludedModules::Pattern(pattern) => {
            Some(ModuleNames::Pattern(understood("lora_exclude_modules", pattern, ModulePattern::new(pattern))?))
        }
    };
    let before = recipe.lora_layers_pattern.0.iter();
    let before = before.map(|text| understood("lora_layers_pattern", text, ModulePattern::before_number(text)));
    let before = before.collect::<Result<Vec<_>, _>>()?;
    let layers = recipe.lora_layers_to_transform.0.clone();
    config.layers = (!layers.is_empty()).then_some(LayerChoice { layers, before });
    config.rank_pattern = by_pattern("lora_rank_pattern", &recipe.lora_rank_pattern)?;
    config.alpha_pattern = by_pattern("lora_alpha_pattern", &recipe.lora_alpha_pattern)?;
    Ok(())
}

fn by_pattern<T: Copy>(key: &'static str, values: &PatternValues<T>) -> Result<ByPattern<T>, TrainError> {
    ByPattern::new(values.0.iter().cloned()).map_err(|pattern| not_understood(key, &pattern))
}

fn understood(key: &'static str, text: &str, pattern: ModulePattern) -> Result<ModulePattern, TrainError> {
    if pattern.is_understood() { Ok(pattern) } else { Err(not_understood(key, text)) }
}

fn not_understood(key: &'static str, pattern: &str) -> TrainError {
    TrainError::RecipeValue { key, message: format!("\"{pattern}\" is not a regular expression") }
}
