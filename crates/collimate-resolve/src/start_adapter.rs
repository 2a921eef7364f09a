//! An adapter that a run starts from: its settings are the recipe's, unless the recipe says otherwise, which is an error.

use std::path::Path;

use collimate_peft::{LoraConfig, LoraTargets, ModuleNames, ModulePattern};
use collimate_recipe::{ExcludedModules, LayerList, ModuleList, ParsedRecipe, PatternValues, Recipe, TargetModules};
use serde::Serialize;
use serde_json::Value;

use crate::error::ResolveError;

/// Takes an adapter's settings over into the recipe that starts from it.
///
/// # Errors
/// The adapter's settings cannot be read, or a key of the recipe says something else; the error names both.
pub(crate) fn adopt(parsed: &ParsedRecipe, recipe: &mut Recipe) -> Result<(), ResolveError> {
    let Some(folder) = recipe.adapter.clone() else { return Ok(()) };
    let adapter = LoraConfig::from_dir(&folder)?;
    let r = adapter.r as f64;
    let keys = Keys { parsed, folder: &folder };
    keys.take("lora_r", &mut recipe.lora_r, adapter.r)?;
    // `use_rslora` is a factor on alpha here.
    let alpha = adapter.scale() * r;
    // Either form of it is the adapter's.
    let is_same = recipe.lora_alpha == adapter.alpha || (recipe.lora_alpha - alpha).abs() <= 1e-9 * alpha;
    if is_same {
        recipe.lora_alpha = alpha;
    }
    keys.take("lora_alpha", &mut recipe.lora_alpha, alpha)?;
    let targets = match &adapter.targets {
        LoraTargets::AllLinear => TargetModules::AllLinear,
        LoraTargets::Names(names) => TargetModules::Names(names.clone()),
        LoraTargets::Pattern(pattern) => TargetModules::Pattern(pattern.text().to_owned()),
    };
    // PEFT spells all-linear and its default out, so that may mean the same; what is trained is what the file has.
    if matches!(recipe.lora_target_modules, TargetModules::AllLinear | TargetModules::PeftDefault) {
        recipe.lora_target_modules = targets;
    } else {
        keys.take("lora_target_modules", &mut recipe.lora_target_modules, targets)?;
    }
    let parameters = ModuleList(adapter.parameters.clone());
    keys.take("lora_target_parameters", &mut recipe.lora_target_parameters, parameters)?;
    let excluded = match &adapter.exclude {
        None => ExcludedModules::none(),
        Some(ModuleNames::Names(names)) => ExcludedModules::Names(names.clone()),
        Some(ModuleNames::Pattern(pattern)) => ExcludedModules::Pattern(pattern.text().to_owned()),
    };
    keys.take("lora_exclude_modules", &mut recipe.lora_exclude_modules, excluded)?;
    let layers = adapter.layers.as_ref();
    let numbers = LayerList(layers.map(|layers| layers.layers.clone()).unwrap_or_default());
    keys.take("lora_layers_to_transform", &mut recipe.lora_layers_to_transform, numbers)?;
    let texts = |patterns: &[ModulePattern]| patterns.iter().map(|pattern| pattern.text().to_owned()).collect();
    let before = ModuleList(layers.map(|layers| texts(&layers.before)).unwrap_or_default());
    keys.take("lora_layers_pattern", &mut recipe.lora_layers_pattern, before)?;
    keys.take("lora_rank_pattern", &mut recipe.lora_rank_pattern, PatternValues(adapter.rank_pattern.values()))?;
    keys.take("lora_alpha_pattern", &mut recipe.lora_alpha_pattern, PatternValues(adapter.alpha_pattern.values()))?;
    keys.take("use_dora", &mut recipe.use_dora, adapter.use_dora)?;
    let saved = ModuleList(adapter.modules_to_save.clone());
    keys.take("lora_modules_to_save", &mut recipe.lora_modules_to_save, saved)
}

struct Keys<'a> {
    parsed: &'a ParsedRecipe,
    folder: &'a Path,
}

impl Keys<'_> {
    /// Sets a key of the recipe to the adapter's value; an error if the recipe has set another one.
    fn take<T: PartialEq + Serialize>(&self, key: &str, value: &mut T, of_adapter: T) -> Result<(), ResolveError> {
        if *value != of_adapter {
            self.compare(key, &shown(value), &shown(&of_adapter))?;
        }
        *value = of_adapter;
        Ok(())
    }

    /// Rejects a key that the recipe has set to another value than the adapter's.
    fn compare(&self, key: &str, value: &Value, of_adapter: &Value) -> Result<(), ResolveError> {
        if !self.parsed.is_set(key) || value == of_adapter || same_set(value, of_adapter) {
            return Ok(());
        }
        let settings = self.folder.join("adapter_config.json");
        let problem = format!(
            "is {value}, but {} has {of_adapter}: a run that starts from an adapter trains it as it is; leave the key out, \
             or start without the adapter",
            settings.display(),
        );
        Err(self.parsed.value_error(key, problem).into())
    }
}

fn shown(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Whether two lists have the same items; the order of names means nothing.
fn same_set(one: &Value, other: &Value) -> bool {
    let sorted = |value: &Value| {
        let mut items: Vec<String> = value.as_array()?.iter().map(Value::to_string).collect();
        items.sort();
        Some(items)
    };
    sorted(one).is_some_and(|one| Some(one) == sorted(other))
}
