//! Reading a recipe: the file first, then the command line's `key=value`, then checks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use collimate_backend::{ComputeDtype, check_dtype};
use collimate_hub::{Hub, HubOptions};
use serde_yaml_ng::{Mapping, Value};

use super::foreign::{self, Notes};
use super::limits::{MAX_RECIPE_BYTES, check_text};
use super::locate::SourceText;
use super::mixture::Mixture;
use super::objective::FlatObjective;
use super::resolve::Resolver;
use super::values::{KeyType, show, to_json};
use super::{DataSources, Origin, Recipe, RecipeError};
use crate::plain_file::read_text;

/// Other names of keys, and the key.
const ALIASES: &[(&str, &str)] = &[
    ("dtype", "torch_dtype"),
    ("evaluation_strategy", "eval_strategy"),
    ("max_seq_length", "max_length"),
    ("per_gpu_train_batch_size", "per_device_train_batch_size"),
    ("per_gpu_eval_batch_size", "per_device_eval_batch_size"),
];

/// Keys that are understood but are not fields, with what they are.
const OTHER_KEYS: &[(&str, &str)] = &[
    (
        "bf16",
        "True is `compute_dtype: bfloat16` where the backend has it, else float32, which is said; and \
         `torch_dtype: bfloat16`.",
    ),
    ("fp16", "True is `torch_dtype: float16`; float16 is not computed in."),
    ("optim", "A form of AdamW by transformers' name of it."),
    ("report_to", "`tensorboard` or `all`, also in a list, is `tensorboard: true`; other places have no effect."),
    ("do_eval", "False leaves evaluation data out."),
    ("use_rslora", "True multiplies `lora_alpha` by the square root of `lora_r`."),
];

impl Recipe {
    /// Reads a recipe from a file (or starts from the defaults), applies `key=value` pairs, resolves paths and checks all.
    ///
    /// A relative path is looked for in the current folder first, then beside the recipe. `output_dir` is always
    /// relative to the current folder.
    ///
    /// # Errors
    /// [`RecipeError`] with the place: unreadable file, unknown key, wrong type, value out of range, missing path.
    /// The model and the data may be absent here; see [`Recipe::model`] and [`Recipe::data_sources`].
    pub fn load(path: Option<&Path>, overrides: &[(String, String)]) -> Result<Self, RecipeError> {
        Self::load_with_notes(path, overrides).map(|(recipe, _)| recipe)
    }

    /// As [`Recipe::load`], and what is to be said of keys of other trainers: those without effect here and those whose
    /// wish is met in another way, in a line each.
    ///
    /// # Errors
    /// As [`Recipe::load`].
    pub fn load_with_notes(
        path: Option<&Path>,
        overrides: &[(String, String)],
    ) -> Result<(Self, Vec<String>), RecipeError> {
        Self::load_through(path, overrides, &Hub::new(HubOptions::from_env()))
    }

    /// As [`Recipe::load_with_notes`], with what is no path looked for on this hub. A model or data set of the hub is
    /// fetched into the cache, and the notes have its commit; the recipe then names the cache's folder and files.
    ///
    /// # Errors
    /// As [`Recipe::load`], and [`RecipeError::Hub`].
    pub fn load_through(
        path: Option<&Path>,
        overrides: &[(String, String)],
        hub: &Hub,
    ) -> Result<(Self, Vec<String>), RecipeError> {
        let mut loader = Loader::default();
        if let Some(path) = path {
            let text = read_text(path, MAX_RECIPE_BYTES);
            let text = text.map_err(|source| RecipeError::Io { path: path.to_owned(), source })?;
            loader.file(&SourceText { path, text: text.into() })?;
        }
        for (key, value) in overrides {
            loader.argument(key, value)?;
        }
        loader.finish(path.and_then(Path::parent), hub)
    }

    /// Every key that is understood beside [`Recipe::KEYS`]: other names, and keys of other trainers, with what they are.
    pub fn other_keys() -> Vec<(&'static str, String)> {
        let aliases = ALIASES.iter().map(|(name, key)| (*name, format!("Another name of `{key}`.")));
        let others = OTHER_KEYS.iter().map(|(name, doc)| (*name, (*doc).to_owned()));
        aliases.chain(others).chain(FlatObjective::keys()).chain(Mixture::keys()).chain(foreign::keys()).collect()
    }

    /// Folder of the model.
    ///
    /// # Errors
    /// [`RecipeError::Missing`] where none was given.
    pub fn model(&self) -> Result<&Path, RecipeError> {
        let missing = RecipeError::Missing { what: "model", key: "model_name_or_path", option: "--model DIR" };
        self.model_name_or_path.as_deref().ok_or(missing)
    }

    /// Files of the training data.
    ///
    /// # Errors
    /// [`RecipeError::Missing`] where none was given.
    pub fn data_sources(&self) -> Result<&DataSources, RecipeError> {
        self.data.as_ref().ok_or(RecipeError::Missing { what: "data", key: "data", option: "--data FILE" })
    }
}

/// A recipe in the making, with the place of everything that was set.
#[derive(Default)]
struct Loader {
    recipe: Recipe,
    origins: BTreeMap<String, Origin>,
    flat: FlatObjective,
    mixture: Mixture,
    notes: Notes,
    do_eval: Option<bool>,
    use_rslora: bool,
    bf16: bool,
}

impl Loader {
    fn file(&mut self, source: &SourceText<'_>) -> Result<(), RecipeError> {
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

    fn argument(&mut self, key: &str, text: &str) -> Result<(), RecipeError> {
        let origin = Origin::Argument(format!("{key}={text}"));
        // What YAML cannot read is text: a path with a colon, say.
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
            // A folder called 2024 is text, although YAML reads a number.
            Err(RecipeError::Type { .. }) => self.set(key, &Value::String(text.to_owned()), origin)?,
            result => result?,
        }
        if key == "data" {
            // An argument wins over the file, however the file names its data.
            self.mixture = Mixture::default();
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
        if let Some(taken) = self.flat.set(key, value).or_else(|| self.mixture.set(key, value)) {
            return taken.map_err(wrong);
        }
        let switch = || bool::from_yaml(value).ok_or_else(|| wrong(bool::EXPECTED));
        let refused = |problem| RecipeError::Value { origin: origin.clone(), key: key.to_owned(), problem };
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
            "report_to" => self.report_to(value).ok_or_else(|| wrong("text or a list of it"))?,
            "do_eval" => self.do_eval = Some(switch()?),
            "use_rslora" => self.use_rslora = switch()?,
            _ => match foreign::accept(key, value, &mut self.notes) {
                Some(taken) => taken.map_err(refused)?,
                None => {
                    let (origin, key) = (origin.clone(), key.to_owned());
                    return Err(RecipeError::UnknownKey { origin, nearest: nearest(&key), key });
                }
            },
        }
        Ok(())
    }

    /// Takes the places that another trainer reports to; `None` where it is no text.
    fn report_to(&mut self, value: &Value) -> Option<()> {
        let places: Vec<&str> = match value {
            Value::Null => Vec::new(),
            Value::Sequence(places) => places.iter().map(Value::as_str).collect::<Option<_>>()?,
            one => vec![one.as_str()?],
        };
        self.recipe.tensorboard = places.iter().any(|place| matches!(*place, "tensorboard" | "all"));
        if places.iter().any(|place| !matches!(*place, "tensorboard" | "all" | "none")) {
            self.notes.without_effect("report_to");
        }
        Some(())
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

    /// What another trainer's `bf16` asks for, where the backend has it. Its recipes mostly have that key and run on any
    /// machine, so it is a wish; `compute_dtype` insists.
    fn compute_in_bfloat16(&mut self) {
        let (backend, dtype) = (self.recipe.backend_name(), ComputeDtype::Bfloat16);
        match check_dtype(backend, self.recipe.device, dtype) {
            Ok(()) => self.recipe.compute_dtype = dtype.name().to_owned(),
            Err(_) => self.notes.instead("bf16", &format!("{backend} computes in float32; what is saved is bfloat16")),
        }
    }

    fn finish(mut self, beside: Option<&Path>, hub: &Hub) -> Result<(Recipe, Vec<String>), RecipeError> {
        // A run that starts from an adapter trains it, unless the recipe says otherwise.
        self.recipe.use_peft |= self.recipe.adapter.is_some() && !self.origins.contains_key("use_peft");
        if self.use_rslora {
            self.recipe.lora_alpha *= (self.recipe.lora_r as f64).sqrt();
            self.notes.instead("use_rslora", "lora_alpha is multiplied by the square root of lora_r");
        }
        if self.bf16 && !self.origins.contains_key("compute_dtype") {
            self.compute_in_bfloat16();
        }
        let Self { mut recipe, origins, mixture, notes, do_eval, .. } = self;
        let origin = |key: &str| origins.get(key).cloned().unwrap_or(Origin::Unnamed);
        let offline = recipe.offline.then(|| Hub::new(HubOptions { offline: true, ..hub.options().clone() }));
        let hub = offline.as_ref().unwrap_or(hub);
        let resolver = Resolver { beside, origin: &origin, hub, notes: RefCell::default() };
        mixture.put_into(&mut recipe, &resolver)?;
        if do_eval == Some(false) {
            (recipe.eval_data, recipe.eval_fraction) = (None, 0.0);
        }
        recipe.check(&origin)?;
        resolver.model("model_name_or_path", &mut recipe.model_name_or_path)?;
        resolver.adapter("adapter", &mut recipe.adapter)?;
        resolver.sources("data", &mut recipe.data)?;
        resolver.sources("eval_data", &mut recipe.eval_data)?;
        if let Some(folder) = recipe.reference.take_if(|word| !matches!(word.as_str(), "base" | "start")) {
            recipe.reference = Some(resolver.path("reference", Path::new(&folder))?.display().to_string());
        }
        let fetched = resolver.notes.into_inner();
        Ok((recipe, fetched.into_iter().chain(notes.lines()).collect()))
    }
}

fn type_error(origin: Origin, key: &str, expected: &str, value: &Value) -> RecipeError {
    RecipeError::Type { origin, key: key.to_owned(), expected: expected.to_owned(), found: show(value) }
}

/// Up to three known keys that are spelled like this one.
fn nearest(key: &str) -> Vec<String> {
    let known = Recipe::KEYS.iter().map(|known| known.name);
    let known = known.chain(Recipe::other_keys().into_iter().map(|(name, _)| name));
    let mut scored: Vec<_> = known.map(|name| (strsim::jaro_winkler(key, name), name)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let best = scored.first().map_or(0.0, |first| first.0);
    let close = |score: f64| score > 0.8 && score > best - 0.03;
    scored.into_iter().filter(|(score, _)| close(*score)).take(3).map(|(_, name)| name.to_owned()).collect()
}
