//! Sets keys one by one: a file's, then the command line's.

use std::collections::BTreeMap;

use serde_yaml_ng::{Mapping, Value};

use super::ParsedRecipe;
use super::other_keys::{ALIASES, nearest};
use crate::error::{Origin, RecipeError};
use crate::flat_objective::FlatObjective;
use crate::foreign::{self, Notes};
use crate::limits::check_text;
use crate::locate::SourceText;
use crate::mixture::MixtureKeys;
use crate::recipe::Recipe;
use crate::report_to::{Upload, report_to};
use crate::values::{KeyType, show, to_json};

/// A recipe under construction, with the origin of every key that was set.
#[derive(Default)]
pub(super) struct Loader {
    recipe: Recipe,
    origins: BTreeMap<String, Origin>,
    flat: FlatObjective,
    mixture: MixtureKeys,
    notes: Notes,
    upload: Upload,
    do_eval: Option<bool>,
    use_rslora: bool,
    bf16: bool,
}

impl Loader {
    pub(super) fn file(&mut self, source: &SourceText<'_>) -> Result<(), RecipeError> {
        let syntax = |error: serde_yaml_ng::Error| {
            let at = error.location().map_or(0, |location| location.index().min(source.text.len()));
            RecipeError::Syntax { origin: source.origin_at(at..at), message: error.to_string() }
        };
        check_text(&source.text).map_err(|message| RecipeError::Syntax { origin: source.origin_at(0..0), message })?;
        let document: Value = serde_yaml_ng::from_str(&source.text).map_err(syntax)?;
        let entries = match document {
            Value::Mapping(entries) => entries,
            Value::Null => Mapping::new(),
            other => {
                let message = format!("expected a table of keys, found {}", show(&other));
                return Err(RecipeError::Syntax { origin: source.origin_at(0..0), message });
            }
        };
        for (key, value) in &entries {
            let Some(key) = key.as_str() else {
                let message = format!("expected keys that are text, found {}", show(key));
                return Err(RecipeError::Syntax { origin: source.origin_at(0..0), message });
            };
            self.set(key, value, source.origin_of(key, None))?;
        }
        if self.recipe.data.is_some()
            && let Some(error) = self.mixture.second_name(self.origin(self.mixture.key().unwrap_or_default()))
        {
            return Err(error);
        }
        self.fold_flat()
    }

    pub(super) fn argument(&mut self, key: &str, text: &str) -> Result<(), RecipeError> {
        let origin = Origin::Argument(format!("{key}={text}"));
        // A path with a colon, say, is not YAML but text.
        let value = serde_yaml_ng::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        if let Some(parameter) = key.strip_prefix("objective.") {
            let Some(json) = to_json(&value) else {
                return Err(type_error(origin, key, "a value that JSON can hold", &value));
            };
            if parameter == "name" {
                let named = <String as KeyType>::from_yaml(&value);
                self.recipe.objective.name = named.ok_or_else(|| type_error(origin, key, "text", &value))?;
            } else {
                self.recipe.objective.params.insert(parameter.to_owned(), json);
            }
            return Ok(());
        }
        match self.set(key, &value, origin.clone()) {
            // YAML reads a folder named 2024 as a number.
            Err(RecipeError::Type { .. }) => self.set(key, &Value::String(text.to_owned()), origin)?,
            result => result?,
        }
        if key == "data" {
            // An argument overrides the file, however the file names its data.
            self.mixture = MixtureKeys::default();
        }
        self.fold_flat()
    }

    fn set(&mut self, key: &str, value: &Value, origin: Origin) -> Result<(), RecipeError> {
        let name = ALIASES.iter().find(|(alias, _)| *alias == key).map_or(key, |(_, name)| name);
        match self.recipe.set_key(name, value) {
            Some(Ok(())) => {}
            Some(Err(expected)) => return Err(type_error(origin, key, expected, value)),
            None => self.set_other(key, value, &origin)?,
        }
        self.origins.insert(name.to_owned(), origin);
        Ok(())
    }

    fn set_other(&mut self, key: &str, value: &Value, origin: &Origin) -> Result<(), RecipeError> {
        let wrong = |expected| type_error(origin.clone(), key, expected, value);
        if let Some(result) = self.flat.set(key, value).or_else(|| self.mixture.set(key, value)) {
            return result.map_err(wrong);
        }
        let switch = || bool::from_yaml(value).ok_or_else(|| wrong(bool::EXPECTED));
        let refused = |problem| RecipeError::Value { origin: origin.clone(), key: key.to_owned(), problem };
        if let Some(result) = self.upload.set(key, value) {
            return result.map_err(wrong);
        }
        match key {
            "bf16" | "fp16" => {
                let is_on = switch()?;
                if key == "bf16" {
                    self.bf16 = is_on;
                }
                if is_on {
                    let dtype = if key == "bf16" { "bfloat16" } else { "float16" };
                    self.recipe.torch_dtype = Some(dtype.to_owned());
                }
            }
            "optim" => {
                let name = value.as_str().ok_or_else(|| wrong("text"))?;
                foreign::optimizer(name, &mut self.notes).map_err(refused)?;
            }
            "report_to" => {
                let found = report_to(value, &mut self.notes).ok_or_else(|| wrong("text or a list of it"))?;
                (self.recipe.trackers, self.recipe.tensorboard) = found;
            }
            "do_eval" => self.do_eval = Some(switch()?),
            "use_rslora" => self.use_rslora = switch()?,
            _ => match foreign::accept(key, value, &mut self.notes) {
                Some(accepted) => accepted.map_err(refused)?,
                None => {
                    let (origin, key) = (origin.clone(), key.to_owned());
                    return Err(RecipeError::UnknownKey { origin, nearest: nearest(&key), key });
                }
            },
        }
        Ok(())
    }

    fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Unnamed)
    }

    fn fold_flat(&mut self) -> Result<(), RecipeError> {
        let folded = self.flat.fold(&mut self.recipe.objective, &mut self.notes);
        folded.map_err(|problem| {
            let key = "loss_weights".to_owned();
            RecipeError::Value { origin: self.origin(&key), key, problem }
        })
    }

    /// rsLoRA divides alpha by the root of each module's own rank, which a factor on `lora_alpha` does not.
    fn refuse_patterns_with_rslora(&self) -> Result<(), RecipeError> {
        if self.recipe.lora_rank_pattern.0.is_empty() && self.recipe.lora_alpha_pattern.0.is_empty() {
            return Ok(());
        }
        let (key, problem) =
            ("use_rslora".to_owned(), "is not supported with lora_rank_pattern or lora_alpha_pattern".to_owned());
        Err(RecipeError::Value { origin: self.origin(&key), key, problem })
    }

    /// Resolves what depends on several keys, and checks everything.
    pub(super) fn finish(mut self) -> Result<ParsedRecipe, RecipeError> {
        if let Some(problem) = self.upload.problem(&self.recipe.output_dir) {
            let key = "push_to_hub".to_owned();
            return Err(RecipeError::Value { origin: self.origin(&key), key, problem });
        }
        // A run that starts from an adapter trains it, unless the recipe says otherwise.
        self.recipe.use_peft |= self.recipe.adapter.is_some() && !self.origins.contains_key("use_peft");
        if self.use_rslora {
            self.refuse_patterns_with_rslora()?;
            self.recipe.lora_alpha *= (self.recipe.lora_r as f64).sqrt();
            self.notes.instead("use_rslora", "lora_alpha is multiplied by the square root of lora_r");
        }
        let prefers_bfloat16 = self.bf16 && !self.origins.contains_key("compute_dtype");
        let Self { mut recipe, origins, mixture, notes, do_eval, .. } = self;
        let mut mixture = mixture.finish(&mut recipe);
        if do_eval == Some(false) {
            (recipe.eval_data, recipe.eval_fraction) = (None, 0.0);
            mixture.iter_mut().for_each(|mixture| mixture.wants_test = false);
        }
        let parsed = ParsedRecipe { recipe, mixture, prefers_bfloat16, notes, origins };
        parsed.recipe.check(&|key| parsed.origin(key))?;
        Ok(parsed)
    }
}

fn type_error(origin: Origin, key: &str, expected: &str, value: &Value) -> RecipeError {
    RecipeError::Type { origin, key: key.to_owned(), expected: expected.to_owned(), found: show(value) }
}
