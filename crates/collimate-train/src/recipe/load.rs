//! Reading a recipe: the file first, then the command line's `key=value`, then checks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;
use serde_yaml_ng::{Mapping, Value};

use super::limits::{MAX_RECIPE_BYTES, check_text};
use super::locate::SourceText;
use super::values::{KeyType, show, to_json};
use super::{ObjectiveSpec, Origin, Recipe, RecipeError};
use crate::plain_file::read_text;

/// Keys of other trainers that set a parameter of the objective, and our name of that parameter.
const OBJECTIVE_PARAMETERS: &[(&str, &str)] =
    &[("beta", "beta"), ("alpha", "alpha"), ("temperature_alpha", "alpha"), ("label_smoothing", "label_smoothing")];

/// Keys that are understood but are not fields.
const OTHER_KEYS: &[&str] = &["dtype", "bf16", "fp16", "loss_type"];

impl Recipe {
    /// Reads a recipe from a file (or starts from the defaults), applies `key=value` pairs, resolves paths and checks all.
    ///
    /// A relative path is looked for in the current folder first, then beside the recipe. `output_dir` is always
    /// relative to the current folder.
    ///
    /// # Errors
    /// [`RecipeError`] with the place: unreadable file, unknown key, wrong type, value out of range, missing path.
    /// The model and the data may be absent here; see [`Recipe::model`] and [`Recipe::data_file`].
    pub fn load(path: Option<&Path>, overrides: &[(String, String)]) -> Result<Self, RecipeError> {
        let mut loader = Loader::default();
        if let Some(path) = path {
            let text = read_text(path, MAX_RECIPE_BYTES);
            let text = text.map_err(|source| RecipeError::Io { path: path.to_owned(), source })?;
            loader.file(&SourceText { path, text: text.into() })?;
        }
        for (key, value) in overrides {
            loader.argument(key, value)?;
        }
        loader.finish(path.and_then(Path::parent))
    }

    /// Folder of the model.
    ///
    /// # Errors
    /// [`RecipeError::Missing`] where none was given.
    pub fn model(&self) -> Result<&Path, RecipeError> {
        let missing = RecipeError::Missing { what: "model", key: "model_name_or_path", option: "--model DIR" };
        self.model_name_or_path.as_deref().ok_or(missing)
    }

    /// File of the training data.
    ///
    /// # Errors
    /// [`RecipeError::Missing`] where none was given.
    pub fn data_file(&self) -> Result<&Path, RecipeError> {
        self.data.as_deref().ok_or(RecipeError::Missing { what: "data", key: "data", option: "--data FILE" })
    }
}

/// A recipe in the making, with the place of everything that was set.
#[derive(Default)]
struct Loader {
    recipe: Recipe,
    origins: BTreeMap<String, Origin>,
    /// Parameters given beside the objective; they are put into it last, whatever the order of the keys.
    flat: Vec<(&'static str, serde_json::Value)>,
    flat_name: Option<String>,
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
        self.fold_flat();
        Ok(())
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
        self.fold_flat();
        Ok(())
    }

    fn set(&mut self, key: &str, value: &Value, origin: Origin) -> Result<(), RecipeError> {
        let name = if key == "dtype" { "torch_dtype" } else { key };
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
        if let Some((_, parameter)) = OBJECTIVE_PARAMETERS.iter().find(|(name, _)| *name == key) {
            let number = f64::from_yaml(value).ok_or_else(|| wrong(f64::EXPECTED))?;
            self.flat.push((parameter, json!(number)));
            return Ok(());
        }
        match key {
            "loss_type" => self.flat_name = Some(loss_name(value.as_str().ok_or_else(|| wrong("text"))?)),
            "bf16" | "fp16" => {
                if bool::from_yaml(value).ok_or_else(|| wrong(bool::EXPECTED))? {
                    let dtype = if key == "bf16" { "bfloat16" } else { "float16" };
                    self.recipe.torch_dtype = Some(dtype.to_owned());
                }
            }
            _ => {
                let (origin, key) = (origin.clone(), key.to_owned());
                return Err(RecipeError::UnknownKey { origin, nearest: nearest(&key), key });
            }
        }
        Ok(())
    }

    fn fold_flat(&mut self) {
        // Parameters of another objective would be refused by this one.
        if let Some(name) = self.flat_name.take().filter(|name| self.recipe.objective.name != *name) {
            self.recipe.objective = ObjectiveSpec::named(&name);
        }
        for (parameter, value) in self.flat.drain(..) {
            self.recipe.objective.params.insert(parameter.to_owned(), value);
        }
    }

    fn finish(self, beside: Option<&Path>) -> Result<Recipe, RecipeError> {
        let Self { mut recipe, origins, .. } = self;
        let origin = |key: &str| origins.get(key).cloned().unwrap_or(Origin::Unnamed);
        // A run that starts from an adapter trains it, unless the recipe says otherwise.
        recipe.use_peft |= recipe.adapter.is_some() && !origins.contains_key("use_peft");
        recipe.check(&origin)?;
        resolve("model_name_or_path", &mut recipe.model_name_or_path, beside, &origin)?;
        resolve("adapter", &mut recipe.adapter, beside, &origin)?;
        resolve("data", &mut recipe.data, beside, &origin)?;
        resolve("eval_data", &mut recipe.eval_data, beside, &origin)?;
        if let Some(folder) = recipe.reference.take_if(|word| !matches!(word.as_str(), "base" | "start")) {
            let mut folder = Some(PathBuf::from(folder));
            resolve("reference", &mut folder, beside, &origin)?;
            recipe.reference = folder.map(|path| path.display().to_string());
        }
        Ok(recipe)
    }
}

fn type_error(origin: Origin, key: &str, expected: &str, value: &Value) -> RecipeError {
    RecipeError::Type { origin, key: key.to_owned(), expected: expected.to_owned(), found: show(value) }
}

/// Points a relative path at the file that exists: as it stands, else beside the recipe.
fn resolve(
    key: &str,
    path: &mut Option<PathBuf>,
    beside: Option<&Path>,
    origin: &dyn Fn(&str) -> Origin,
) -> Result<(), RecipeError> {
    let Some(given) = path.as_ref().filter(|given| !given.exists()) else { return Ok(()) };
    let also = beside.filter(|_| given.is_relative()).map(|folder| folder.join(given)).filter(|also| also != given);
    match also {
        Some(also) if also.exists() => *path = Some(also),
        also => {
            let (origin, key, path) = (origin(key), key.to_owned(), given.clone());
            return Err(RecipeError::NoSuchPath { origin, key, path, also });
        }
    }
    Ok(())
}

/// Our name of another trainer's `loss_type`.
fn loss_name(loss_type: &str) -> String {
    match loss_type.to_ascii_lowercase().as_str() {
        "sigmoid" => "dpo".to_owned(),
        other => other.to_owned(),
    }
}

/// Up to three known keys that are spelled like this one.
fn nearest(key: &str) -> Vec<String> {
    let known = Recipe::KEYS.iter().map(|known| known.name);
    let known = known.chain(OTHER_KEYS.iter().copied()).chain(OBJECTIVE_PARAMETERS.iter().map(|(name, _)| *name));
    let mut scored: Vec<_> = known.map(|name| (strsim::jaro_winkler(key, name), name)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let best = scored.first().map_or(0.0, |first| first.0);
    let close = |score: f64| score > 0.8 && score > best - 0.03;
    scored.into_iter().filter(|(score, _)| close(*score)).take(3).map(|(_, name)| name.to_owned()).collect()
}
