//! Sets keys one by one: a file's, then the command line's.

use std::collections::BTreeMap;

use serde_yaml_ng::{Mapping, Value};

use super::ParsedRecipe;
use super::other_keys::{nearest, our_name};
use super::switches::{Defaults, Refusal, Switches};
use crate::error::{Origin, RecipeError};
use crate::flat_objective::FlatObjective;
use crate::foreign::{self, Notes};
use crate::limits::check_text;
use crate::locate::SourceText;
use crate::mixture::MixtureKeys;
use crate::objective::ObjectiveSpec;
use crate::recipe::Recipe;
use crate::report_to::{Upload, report_to};
use crate::trainer::{Trainer, VERB};
use crate::trl::{TRL_VERSION, TrlDefaults};
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
    switches: Switches,
    /// The keys set so far that only TRL's recipes have, in their order.
    trl_keys: Vec<String>,
    /// Whether TRL's defaults apply, and why.
    trl: Option<TrlReason>,
}

/// Why TRL's defaults apply.
enum TrlReason {
    /// The recipe has this key.
    Key(String),
    /// The user said so.
    Asked,
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
        if let Some((key, problem)) = foreign::elsewhere::problem_of(entries.keys().filter_map(Value::as_str)) {
            let origin = source.origin_of(key, None);
            return Err(RecipeError::Value { origin, key: key.to_owned(), problem });
        }
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
        Ok(())
    }

    /// Decides whether TRL's defaults apply, once the file is read and before the arguments are; `arguments` are their keys.
    pub(super) fn decide(&mut self, defaults: &TrlDefaults, arguments: &[&str]) -> Result<(), RecipeError> {
        let is_set = |key: &str| self.origins.contains_key(key);
        // A recipe of ours may say where it reports to.
        let tells = |key: &&String| key.as_str() != "report_to" || !is_set("data");
        let by_file = || self.trl_keys.iter().find(tells).filter(|_| !is_set("objective")).cloned();
        let is_ours = is_set("objective") || is_set("data");
        let of_trl = |key: &&str| Recipe::KEYS.iter().all(|known| known.name != *key);
        self.trl = match defaults {
            TrlDefaults::Never => None,
            TrlDefaults::Always => Some(TrlReason::Asked),
            TrlDefaults::ByFile => by_file().map(TrlReason::Key),
            TrlDefaults::ByFileOrArguments(keys) => {
                let given = |key: &&String| !is_ours && arguments.contains(&key.as_str()) && of_trl(&key.as_str());
                by_file().or_else(|| keys.iter().find(given).cloned()).map(TrlReason::Key)
            }
        };
        if self.trl.is_some() && !self.origins.contains_key("objective") {
            self.recipe.objective = self.flat.default_objective();
        }
        self.fold_flat()
    }

    pub(super) fn argument(&mut self, key: &str, text: &str) -> Result<(), RecipeError> {
        if key == VERB {
            return self.verb(text);
        }
        let origin = Origin::Argument(format!("{key}={text}"));
        // A path with a colon, say, is not YAML but text.
        let value = serde_yaml_ng::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        if let Some(parameter) = key.strip_prefix("objective.") {
            let Some(json) = to_json(&value) else {
                return Err(RecipeError::of_type(origin, key, "a value that JSON can hold", &value));
            };
            if parameter == "name" {
                let named = <String as KeyType>::from_yaml(&value);
                self.recipe.objective.name = named.ok_or_else(|| RecipeError::of_type(origin, key, "text", &value))?;
            } else {
                if parameter == "gamma" {
                    self.flat.forget_ratio();
                }
                self.recipe.objective.params.insert(parameter.to_owned(), json);
            }
            return Ok(());
        }
        match self.set(key, &value, origin.clone()) {
            // YAML reads a folder named 2024 as a number.
            Err(RecipeError::Type { .. }) => self.set(key, &Value::String(text.to_owned()), origin)?,
            result => result?,
        }
        if key == "objective" {
            self.flat.restore();
        }
        if key == "data" {
            // An argument overrides the file, however the file names its data.
            self.mixture = MixtureKeys::default();
        }
        self.fold_flat()
    }

    /// Takes the recipe as a verb says. A recipe with the verb's objective keeps its parameters.
    fn verb(&mut self, name: &str) -> Result<(), RecipeError> {
        let names_a_loss = Trainer::named(name).is_some_and(|trainer| self.flat.set_trainer(trainer));
        if !names_a_loss {
            self.origins.insert("objective".to_owned(), Origin::Argument(name.to_owned()));
        }
        if !names_a_loss && self.recipe.objective.name != name {
            self.recipe.objective = ObjectiveSpec::named(name);
            self.flat.restore();
        }
        self.fold_flat()
    }

    fn set(&mut self, key: &str, value: &Value, origin: Origin) -> Result<(), RecipeError> {
        let name = our_name(key);
        // transformers: evaluates as often as it logs.
        if name == "eval_steps" && value.is_null() {
            return Ok(());
        }
        if name != key || Recipe::KEYS.iter().all(|known| known.name != name) {
            self.trl_keys.push(key.to_owned());
        }
        match self.recipe.set_key(name, value) {
            Some(Ok(())) => {}
            Some(Err(expected)) => return Err(RecipeError::of_type(origin, key, expected, value)),
            None => self.set_other(key, value, &origin)?,
        }
        self.origins.insert(name.to_owned(), origin);
        Ok(())
    }

    fn set_other(&mut self, key: &str, value: &Value, origin: &Origin) -> Result<(), RecipeError> {
        let wrong = |expected| RecipeError::of_type(origin.clone(), key, expected, value);
        if let Some(result) = self.flat.set(key, value).or_else(|| self.mixture.set(key, value)) {
            return result.map_err(wrong);
        }
        let refused = |problem| RecipeError::Value { origin: origin.clone(), key: key.to_owned(), problem };
        if let Some(result) = self.upload.set(key, value) {
            return result.map_err(wrong);
        }
        if let Some(result) = self.switches.set(key, value, &mut self.recipe, &mut self.notes) {
            return result.map_err(|refusal| match refusal {
                Refusal::Type(expected) => wrong(expected),
                Refusal::Value(problem) => refused(problem),
            });
        }
        match key {
            "optim" => {
                let name = value.as_str().ok_or_else(|| wrong("text"))?;
                foreign::optimizer(name, &mut self.notes).map_err(refused)?;
            }
            "report_to" => {
                let found = report_to(value, &mut self.notes).ok_or_else(|| wrong("text or a list of it"))?;
                (self.recipe.trackers, self.recipe.tensorboard) = found;
            }
            _ => match foreign::accept(key, value, &mut self.notes) {
                Some(accepted) => accepted.map_err(refused)?,
                None => {
                    if let Some(problem) = foreign::elsewhere::problem(key) {
                        return Err(refused(problem));
                    }
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
        let folded = self.flat.fold(&mut self.recipe.objective, self.trl.is_some());
        folded.map_err(|(key, problem)| self.value_error(key, problem))
    }

    fn value_error(&self, key: &str, problem: String) -> RecipeError {
        RecipeError::Value { origin: self.origin(key), key: key.to_owned(), problem }
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
            return Err(self.value_error("push_to_hub", problem));
        }
        self.fold_flat()?;
        if let Some(problem) = self.flat.weights_problem() {
            return Err(self.value_error("loss_weights", problem.to_owned()));
        }
        self.flat.note_unread(&mut self.notes);
        // A run that starts from an adapter trains it, unless the recipe says otherwise.
        self.recipe.use_peft |= self.recipe.adapter.is_some() && !self.origins.contains_key("use_peft");
        if self.switches.use_rslora {
            self.refuse_patterns_with_rslora()?;
        }
        self.fill_in();
        let is_trl = self.trl.is_some();
        let is_set = |key: &str| self.origins.contains_key(key);
        let disable_dropout = is_trl && self.flat.trainer(&self.recipe.objective).disables_dropout();
        let defaults = Defaults { bf16: is_trl, disable_dropout };
        let finished = self.switches.finish(&mut self.recipe, &is_set, defaults, &mut self.notes);
        let prefers_bfloat16 = finished.map_err(|wrong| self.value_error(&wrong.key, wrong.problem))?;
        let Self { mut recipe, origins, mixture, notes, switches, .. } = self;
        let wants_test = switches.do_eval == Some(true);
        let mut mixture = mixture.finish(&mut recipe, wants_test);
        if switches.do_eval == Some(false) {
            (recipe.eval_data, recipe.eval_fraction) = (None, 0.0);
            mixture.iter_mut().for_each(|mixture| mixture.wants_test = false);
        }
        let model_revision = switches.model_revision;
        let parsed = ParsedRecipe { recipe, mixture, prefers_bfloat16, model_revision, notes, origins };
        parsed.recipe.check(&|key| parsed.origin(key))?;
        Ok(parsed)
    }

    /// Fills in keys whose default depends on others or on whose recipe it is.
    fn fill_in(&mut self) {
        let Self { recipe, origins, .. } = self;
        let is_set = |key: &str| origins.contains_key(key);
        let Some(reason) = &self.trl else {
            let half = recipe.max_length.map(|length| (length / 2).max(1));
            if !is_set("max_prompt_length") && recipe.max_length <= recipe.max_prompt_length && half.is_some() {
                recipe.max_prompt_length = half;
            }
            return;
        };
        let trainer = self.flat.trainer(&recipe.objective);
        let is_shuffled = is_set("shuffle") || is_set("train_sampling_strategy");
        let is_given = |key: &str| key == "objective" || is_set(key) || (key == "shuffle" && is_shuffled);
        let mut changed = recipe.set_trl_defaults(trainer, &is_given);
        if !is_set("objective") && !self.flat.names_a_loss() {
            changed.insert(0, format!("objective {}", recipe.objective.name));
        }
        self.flat.set_trl_defaults(&mut recipe.objective);
        if !is_set("eval_steps") {
            recipe.eval_steps = recipe.logging_steps;
        }
        let why = match reason {
            TrlReason::Key(key) => format!("since it has TRL's key `{key}`"),
            TrlReason::Asked => "as asked for".to_owned(),
        };
        self.notes.trl_defaults(format!(
            "TRL {TRL_VERSION}'s defaults for what the recipe leaves out, {why}: {}",
            if changed.is_empty() { "it leaves out none that differ".to_owned() } else { changed.join(", ") }
        ));
    }
}
