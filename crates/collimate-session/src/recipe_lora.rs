//! The adapter that a recipe asks for.

use collimate_hf::ModelConfig;
use collimate_peft::{
    ByPattern, LayerChoice, LoraConfig, LoraTargets, ModuleNames, ModulePattern, all_linear, peft_default_targets,
};
use collimate_recipe::{ExcludedModules, PatternValues, Recipe, TargetModules};

use crate::error::SessionError;

/// Which layers of a model get an adapter, and what one.
///
/// # Errors
/// The model has none of these layers, or a pattern is not understood; the error names the recipe's key.
pub fn lora_config(recipe: &Recipe, model: &ModelConfig) -> Result<LoraConfig, SessionError> {
    if model.scales.is_some() {
        let message = format!("cannot be true: all weights of {} are trained", model.model_type());
        return Err(SessionError::Option { key: "use_peft", message });
    }
    let targets = lora_targets(recipe, model)?;
    let mut config = LoraConfig::new(recipe.lora_r, recipe.lora_alpha, targets);
    add_settings(recipe, &mut config)?;
    if recipe.adapter.is_some() {
        // The adapter has its own modules, which are checked when it is read.
        return Ok(config);
    }
    config.targets = config.resolved_targets(model)?;
    // Rejects names that the model does not have.
    config.target_modules(model)?;
    Ok(config)
}

fn lora_targets(recipe: &Recipe, model: &ModelConfig) -> Result<LoraTargets, SessionError> {
    let refused = |message| SessionError::Option { key: "lora_target_modules", message };
    match &recipe.lora_target_modules {
        TargetModules::AllLinear => Ok(all_linear(model)),
        TargetModules::Names(names) => Ok(LoraTargets::Names(names.clone())),
        TargetModules::Pattern(text) => {
            let pattern = ModulePattern::new(text);
            if !pattern.is_understood() {
                return Err(refused(format!("\"{text}\" is not a regular expression that is understood")));
            }
            Ok(LoraTargets::Pattern(pattern))
        }
        TargetModules::PeftDefault => {
            let model_type = model.model_type();
            let names = peft_default_targets(model_type).ok_or_else(|| {
                refused(format!("PEFT has no default for {model_type}: name the layers, or write all-linear"))
            })?;
            Ok(LoraTargets::Names(names.iter().map(|name| (*name).to_owned()).collect()))
        }
    }
}

/// Sets what a recipe says about a fresh adapter beyond rank, scale and targets.
///
/// # Errors
/// A pattern is not understood; the error names its key.
fn add_settings(recipe: &Recipe, config: &mut LoraConfig) -> Result<(), SessionError> {
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

fn by_pattern<T: Copy>(key: &'static str, values: &PatternValues<T>) -> Result<ByPattern<T>, SessionError> {
    ByPattern::new(values.0.iter().cloned()).map_err(|pattern| not_understood(key, &pattern))
}

fn understood(key: &'static str, text: &str, pattern: ModulePattern) -> Result<ModulePattern, SessionError> {
    if pattern.is_understood() { Ok(pattern) } else { Err(not_understood(key, text)) }
}

fn not_understood(key: &'static str, pattern: &str) -> SessionError {
    SessionError::Option { key, message: format!("\"{pattern}\" is not a regular expression") }
}
