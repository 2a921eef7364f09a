//! An adapter's settings as PEFT's `adapter_config.json` has them.

use std::path::Path;

use collimate_hf::{Fields, HfError, read_json};
use serde_json::{Map, Value, json};

use crate::config::{LoraConfig, LoraTargets};
use crate::matching::{ByPattern, LayerChoice, ModuleNames, ModulePattern};

/// The settings of an adapter.
pub(crate) const CONFIG_FILE: &str = "adapter_config.json";

/// Maximum number of targets, each of which is compared with every module. The largest dense models have 900 or so.
const MAX_TARGETS: usize = 2000;

impl LoraConfig {
    /// Reads the settings of an adapter's folder, without its matrices.
    ///
    /// # Errors
    /// Those of [`LoraConfig::from_json`]; also if the folder has no settings.
    pub fn from_dir(dir: &Path) -> Result<Self, HfError> {
        let path = dir.join(CONFIG_FILE);
        if !path.exists() {
            let remedy = "an adapter's folder has its settings there".to_owned();
            return Err(HfError::MissingFile { path, remedy });
        }
        Self::from_json(&path, &read_json(&path)?)
    }

    /// Reads the contents of an `adapter_config.json`; `path` is for errors only.
    ///
    /// # Errors
    /// [`HfError`] naming the setting: not LoRA, a variant that computes something else (trained biases, rotated or replaced
    /// weights, …), or an invalid value.
    pub fn from_json(path: &Path, value: &Value) -> Result<Self, HfError> {
        let fields = Fields::top(path, value)?;
        supported(fields)?;
        let r = fields.size("r")?.ok_or_else(|| fields.wrong("r", "the rank, a whole number"))?;
        let alpha = fields.positive("lora_alpha")?.ok_or_else(|| fields.wrong("lora_alpha", "a number"))?;
        let dropout =
            fields.number("lora_dropout", "a number from 0 up to, not including, 1", |x| (0.0..1.0).contains(&x))?;
        let rank = |value: &Value| {
            value.as_u64().and_then(|r| usize::try_from(r).ok()).filter(|r| (1..=i32::MAX as usize).contains(r))
        };
        let positive = |value: &Value| value.as_f64().filter(|x| x.is_finite() && *x > 0.0);
        Ok(Self {
            r,
            alpha,
            dropout: dropout.unwrap_or(0.0),
            targets: targets(fields)?,
            parameters: names(fields, "target_parameters")?,
            exclude: names_or_pattern(fields, "exclude_modules")?,
            layers: layers(fields)?,
            rank_pattern: by_pattern(fields, "rank_pattern", "an object of patterns and ranks", rank)?,
            alpha_pattern: by_pattern(fields, "alpha_pattern", "an object of patterns and numbers above 0", positive)?,
            use_rslora: fields.flag_or("use_rslora", false)?,
            use_dora: fields.flag_or("use_dora", false)?,
            modules_to_save: names(fields, "modules_to_save")?,
            base_model_name_or_path: fields.text("base_model_name_or_path")?.map(str::to_owned),
        })
    }

    /// The contents of `adapter_config.json`. `all-linear` is saved as the last parts of the modules' names, as PEFT does;
    /// beside a tower, whose layers have the same names, `root` is where the text model is.
    pub(crate) fn to_json(&self, leaves: &[&str], root: Option<&str>, dropout: f64) -> Value {
        let listed = |names: &[&str]| root.map_or_else(|| json!(names), |root| json!(below(root, names)));
        let targets = match &self.targets {
            LoraTargets::AllLinear => listed(leaves),
            LoraTargets::Names(names) => listed(&names.iter().map(String::as_str).collect::<Vec<_>>()),
            LoraTargets::Pattern(pattern) => json!(pattern.text()),
        };
        let exclude = self.exclude.as_ref().map(|excluded| match excluded {
            ModuleNames::Names(names) => json!(names),
            ModuleNames::Pattern(pattern) => json!(pattern.text()),
        });
        let before = self.layers.as_ref().filter(|layers| !layers.before.is_empty());
        let before = before.map(|layers| layers.before.iter().map(ModulePattern::text).collect::<Vec<_>>());
        let saved = (!self.modules_to_save.is_empty()).then_some(&self.modules_to_save);
        json!({
            "alpha_pattern": object(&self.alpha_pattern, number),
            "base_model_name_or_path": self.base_model_name_or_path,
            "bias": "none",
            "exclude_modules": exclude,
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "layers_pattern": before,
            "layers_to_transform": self.layers.as_ref().map(|layers| &layers.layers),
            "lora_alpha": number(self.alpha),
            "lora_dropout": dropout,
            "modules_to_save": saved,
            "peft_type": "LORA",
            "r": self.r,
            "rank_pattern": object(&self.rank_pattern, |r| json!(r)),
            "target_modules": targets,
            "target_parameters": (!self.parameters.is_empty()).then_some(&self.parameters),
            "task_type": "CAUSAL_LM",
            "use_dora": self.use_dora,
            "use_rslora": self.use_rslora,
        })
    }
}

/// A pattern for the modules of a text model that end in one of these names, and for its output layer.
fn below(root: &str, names: &[&str]) -> String {
    let literal = |text: &str| {
        let escaped = |c: char| if c.is_alphanumeric() || c == '_' { vec![c] } else { vec!['\\', c] };
        text.chars().flat_map(escaped).collect::<String>()
    };
    let (whole, ends): (Vec<&str>, Vec<&str>) =
        names.iter().partition(|name| **name == "lm_head" || name.starts_with(root));
    let ends: Vec<String> = ends.into_iter().map(literal).collect();
    let ends = (!ends.is_empty()).then(|| format!(r"{}\.(?:.*\.)?(?:{})", literal(root), ends.join("|")));
    ends.into_iter().chain(whole.into_iter().map(literal)).collect::<Vec<_>>().join("|")
}

/// A number, whole if it can be: some readers accept only whole numbers.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value < 1e15 { json!(value as u64) } else { json!(value) }
}

fn object<T: Copy>(values: &ByPattern<T>, shown: impl Fn(T) -> Value) -> Value {
    Value::Object(values.0.iter().map(|(pattern, value)| (pattern.text().to_owned(), shown(*value))).collect())
}

/// Settings that change the computation unless they are absent, null, false or empty.
const VARIANTS: [(&str, &str); 12] = [
    ("layer_replication", "merge the adapter with PEFT"),
    ("fan_in_fan_out", "weights are stored as [out, in] in every architecture here"),
    ("lora_bias", "train the adapter without biases on its matrices"),
    ("trainable_token_indices", "merge the adapter with PEFT"),
    ("ensure_weight_tying", "merge the adapter with PEFT"),
    ("alora_invocation_tokens", "an adapter here is always on"),
    ("use_qalora", "train the adapter as plain LoRA"),
    ("use_bdlora", "train the adapter as plain LoRA"),
    ("arrow_config", "train the adapter as plain LoRA"),
    ("kasa_config", "train the adapter as plain LoRA"),
    ("monteclora_config", "train the adapter as plain LoRA"),
    ("velora_config", "train the adapter as plain LoRA"),
];

/// First values of `init_lora_weights` that also change the base model's weights.
const BASE_CHANGING: [&str; 5] = ["pissa", "olora", "corda", "loftq", "lora_ga"];

fn supported(fields: Fields<'_>) -> Result<(), HfError> {
    match fields.text("peft_type")? {
        Some("LORA") => {}
        Some(_) => return Err(fields.unsupported("peft_type", "supported: LORA")),
        None => return Err(fields.wrong("peft_type", "\"LORA\"")),
    }
    if !matches!(fields.text("task_type")?, None | Some("CAUSAL_LM")) {
        return Err(fields.unsupported("task_type", "supported: CAUSAL_LM"));
    }
    if !matches!(fields.text("bias")?, None | Some("none")) {
        return Err(fields.unsupported("bias", "supported: none"));
    }
    let first = fields.get("init_lora_weights").and_then(Value::as_str).unwrap_or("");
    if BASE_CHANGING.iter().any(|name| first.to_lowercase().starts_with(name)) {
        let remedy = "it changes the base model too: convert the adapter to plain LoRA with PEFT";
        return Err(fields.unsupported("init_lora_weights", remedy));
    }
    for (key, remedy) in VARIANTS {
        if fields.get(key).is_some_and(is_set) {
            return Err(fields.unsupported(key, remedy));
        }
    }
    Ok(())
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(object) => !object.is_empty(),
        _ => true,
    }
}

fn targets(fields: Fields<'_>) -> Result<LoraTargets, HfError> {
    let key = "target_modules";
    match fields.get(key) {
        Some(Value::String(text)) if text == "all-linear" => return Ok(LoraTargets::AllLinear),
        Some(Value::String(pattern)) => return Ok(LoraTargets::Pattern(ModulePattern::new(pattern))),
        _ => {}
    }
    let names = names(fields, key)?;
    let has_parameters = fields.get("target_parameters").is_some_and(is_set);
    if names.is_empty() && !has_parameters {
        return Err(fields.wrong(key, "\"all-linear\", a pattern or a list of modules' names"));
    }
    Ok(LoraTargets::Names(names))
}

/// A list of names, none empty; empty if the field is absent.
fn names(fields: Fields<'_>, key: &str) -> Result<Vec<String>, HfError> {
    let names = fields.texts(key)?.unwrap_or_default();
    if names.len() > MAX_TARGETS {
        return Err(fields.wrong(key, &format!("at most {MAX_TARGETS} names")));
    }
    if names.iter().any(|name| name.is_empty()) {
        return Err(fields.wrong(key, "names that are not empty"));
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

fn names_or_pattern(fields: Fields<'_>, key: &str) -> Result<Option<ModuleNames>, HfError> {
    if let Some(Value::String(text)) = fields.get(key) {
        return Ok((!text.is_empty()).then(|| ModuleNames::Pattern(ModulePattern::new(text))));
    }
    let names = names(fields, key)?;
    Ok((!names.is_empty()).then_some(ModuleNames::Names(names)))
}

/// `layers_to_transform`, a number or a list, and `layers_pattern`, a pattern or a list.
fn layers(fields: Fields<'_>) -> Result<Option<LayerChoice>, HfError> {
    let number = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
    let layers: Option<Vec<usize>> = match fields.get("layers_to_transform") {
        None => return Ok(None),
        Some(Value::Array(list)) if list.is_empty() => return Ok(None),
        Some(Value::Array(list)) => list.iter().map(number).collect(),
        Some(value) => number(value).map(|layer| vec![layer]),
    };
    let layers = layers.filter(|layers| layers.len() <= MAX_TARGETS);
    let layers = layers.ok_or_else(|| fields.wrong("layers_to_transform", "a layer's number or a list of them"))?;
    let texts = match fields.get("layers_pattern") {
        Some(Value::String(text)) => vec![text.clone()],
        _ => names(fields, "layers_pattern")?,
    };
    let texts = texts.iter().filter(|text| !text.is_empty());
    Ok(Some(LayerChoice { layers, before: texts.map(|text| ModulePattern::before_number(text)).collect() }))
}

fn by_pattern<T: Copy>(
    fields: Fields<'_>,
    key: &str,
    expected: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<ByPattern<T>, HfError> {
    let none = Map::new();
    let object = match fields.get(key) {
        None => &none,
        Some(Value::Object(object)) if object.len() <= MAX_TARGETS => object,
        Some(_) => return Err(fields.wrong(key, expected)),
    };
    let values = object.iter().map(|(pattern, value)| Some((pattern.clone(), read(value)?)));
    let values: Vec<_> = values.collect::<Option<_>>().ok_or_else(|| fields.wrong(key, expected))?;
    let unknown = |pattern: String| {
        let pattern: String = pattern.chars().take(80).collect();
        fields.unsupported(key, &format!("the pattern \"{pattern}\" is not understood: name the modules instead"))
    };
    ByPattern::new(values).map_err(unknown)
}
