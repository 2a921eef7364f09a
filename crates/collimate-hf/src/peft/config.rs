//! The settings of a LoRA adapter, read from and written to PEFT's `adapter_config.json`.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::leaf;
use crate::blocks::{LinearSpec, linear_modules};
use crate::config::ModelConfig;
use crate::error::{AdapterError, HfError};
use crate::fields::Fields;

/// Maximum number of targets, each of which is compared with every module. The largest dense models have 900 or so.
const MAX_TARGETS: usize = 2000;

/// The linear modules that an adapter changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoraTargets {
    /// Every linear module of the blocks, but not the output layer. PEFT's `all-linear`.
    AllLinear,
    /// Modules whose full name, or a part of it after a dot up to its end, is listed: `q_proj`, `self_attn.q_proj`.
    Names(Vec<String>),
}

impl LoraTargets {
    /// Whether a module is among them.
    pub fn matches(&self, module: &str) -> bool {
        match self {
            Self::AllLinear => true,
            Self::Names(names) => names.iter().any(|name| ends_in(module, name)),
        }
    }
}

/// Rank, scale and targets of a LoRA adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// Rank of the two matrices (`lora_r`).
    pub r: usize,
    /// Numerator of the scale (`lora_alpha`).
    pub alpha: f64,
    /// Probability with which training drops an input of A (`lora_dropout`), in [0, 1).
    pub dropout: f64,
    /// Modules to change (`lora_target_modules`).
    pub targets: LoraTargets,
    /// Whether the scale is alpha/√r instead of alpha/r (rsLoRA, arXiv 2312.03732).
    pub use_rslora: bool,
    /// The base model, by the name that the adapter's author gave it.
    pub base_model_name_or_path: Option<String>,
}

impl LoraConfig {
    /// Settings without dropout, scaled by alpha/r.
    pub fn new(r: usize, alpha: f64, targets: LoraTargets) -> Self {
        Self { r, alpha, dropout: 0.0, targets, use_rslora: false, base_model_name_or_path: None }
    }

    /// The factor s of `s · B A`: alpha/r, or alpha/√r with `use_rslora`.
    pub fn scale(&self) -> f64 {
        let r = self.r as f64;
        self.alpha / if self.use_rslora { r.sqrt() } else { r }
    }

    /// Whether a linear module is targeted: `model.layers.0.self_attn.q_proj`.
    pub fn matches(&self, module: &str) -> bool {
        self.targets.matches(module)
    }

    /// The targeted linear modules of a model, layer by layer.
    ///
    /// # Errors
    /// [`AdapterError::UnknownTarget`] if a target matches no module, or there are no targets.
    pub fn target_modules(&self, model: &ModelConfig) -> Result<Vec<LinearSpec>, HfError> {
        let linears = linear_modules(model);
        if let LoraTargets::Names(names) = &self.targets {
            let unmatched = names.iter().find(|name| !linears.iter().any(|linear| ends_in(&linear.module, name)));
            let none = String::new();
            if let Some(target) = unmatched.or_else(|| names.is_empty().then_some(&none)) {
                let known: BTreeSet<&str> = linears.iter().map(|linear| leaf(&linear.module)).collect();
                let known = known.into_iter().map(str::to_owned).collect();
                return Err(AdapterError::UnknownTarget { target: target.clone(), known }.into());
            }
        }
        Ok(linears.into_iter().filter(|linear| self.matches(&linear.module)).collect())
    }

    /// Reads the contents of an `adapter_config.json`; `path` is for errors only.
    ///
    /// # Errors
    /// [`HfError`] naming the setting: not LoRA, a variant that computes something else (DoRA, rank patterns, modules saved
    /// whole, trained biases, …), or an invalid value.
    pub fn from_json(path: &Path, value: &Value) -> Result<Self, HfError> {
        let fields = Fields::top(path, value)?;
        plain_lora(fields)?;
        let r = fields.size("r")?.ok_or_else(|| fields.wrong("r", "the rank, a whole number"))?;
        let alpha = fields.positive("lora_alpha")?.ok_or_else(|| fields.wrong("lora_alpha", "a number"))?;
        let dropout =
            fields.number("lora_dropout", "a number from 0 up to, not including, 1", |x| (0.0..1.0).contains(&x))?;
        Ok(Self {
            r,
            alpha,
            dropout: dropout.unwrap_or(0.0),
            targets: targets(fields)?,
            use_rslora: fields.flag_or("use_rslora", false)?,
            base_model_name_or_path: fields.text("base_model_name_or_path")?.map(str::to_owned),
        })
    }

    /// The contents of `adapter_config.json`. `all-linear` is saved as the last parts of the modules' names, as PEFT does.
    pub(super) fn to_json(&self, leaves: &[&str], dropout: f64) -> Value {
        let targets = match &self.targets {
            LoraTargets::AllLinear => leaves.iter().map(|leaf| (*leaf).to_owned()).collect(),
            LoraTargets::Names(names) => names.clone(),
        };
        // Some readers accept only whole numbers.
        let alpha =
            if self.alpha.fract() == 0.0 && self.alpha < 1e15 { json!(self.alpha as u64) } else { json!(self.alpha) };
        json!({
            "base_model_name_or_path": self.base_model_name_or_path,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "lora_alpha": alpha,
            "lora_dropout": dropout,
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": self.r,
            "target_modules": targets,
            "task_type": "CAUSAL_LM",
            "use_dora": false,
            "use_rslora": self.use_rslora,
        })
    }
}

/// Settings that change the computation unless they are absent, null, false or empty.
const VARIANTS: [(&str, &str); 18] = [
    ("use_dora", "train the adapter without DoRA"),
    ("rank_pattern", "every module must have the same rank r"),
    ("alpha_pattern", "every module must have the same lora_alpha"),
    ("modules_to_save", "whole modules beside the matrices are not read: merge the adapter with PEFT"),
    ("layers_to_transform", "name the layers in target_modules instead: \"layers.0.self_attn.q_proj\""),
    ("layers_pattern", "name the layers in target_modules instead"),
    ("exclude_modules", "leave the modules out of target_modules instead"),
    ("layer_replication", "merge the adapter with PEFT"),
    ("fan_in_fan_out", "weights are stored as [out, in] in every architecture here"),
    ("lora_bias", "train the adapter without biases on its matrices"),
    ("target_parameters", "name modules in target_modules"),
    ("trainable_token_indices", "merge the adapter with PEFT"),
    ("alora_invocation_tokens", "an adapter here is always on"),
    ("use_qalora", "train the adapter as plain LoRA"),
    ("use_bdlora", "train the adapter as plain LoRA"),
    ("arrow_config", "train the adapter as plain LoRA"),
    ("kasa_config", "train the adapter as plain LoRA"),
    ("monteclora_config", "train the adapter as plain LoRA"),
];

/// First values of `init_lora_weights` that also change the base model's weights.
const BASE_CHANGING: [&str; 5] = ["pissa", "olora", "corda", "loftq", "lora_ga"];

fn plain_lora(fields: Fields<'_>) -> Result<(), HfError> {
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
    let names = match fields.get(key) {
        Some(Value::String(text)) if text == "all-linear" => return Ok(LoraTargets::AllLinear),
        Some(Value::String(pattern)) => names_of_pattern(pattern).ok_or_else(|| {
            fields.unsupported(key, "of patterns only \".*\\.(q_proj|v_proj)\" is: list the modules' names instead")
        })?,
        _ => fields.texts(key)?.unwrap_or_default().into_iter().map(str::to_owned).collect(),
    };
    if names.len() > MAX_TARGETS {
        return Err(fields.wrong(key, &format!("at most {MAX_TARGETS} names")));
    }
    if names.is_empty() || names.iter().any(String::is_empty) {
        return Err(fields.wrong(key, "\"all-linear\" or a list of modules' names"));
    }
    Ok(LoraTargets::Names(names))
}

/// The names that a pattern of the form `.*\.PATH\.(A|B)` matches, as PEFT matches it (whole names).
fn names_of_pattern(pattern: &str) -> Option<Vec<String>> {
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    let pattern = pattern.strip_suffix('$').unwrap_or(pattern).strip_prefix(r".*\.")?;
    let (head, names) = match pattern.strip_suffix(')') {
        Some(rest) => rest.split_once('(')?,
        None => ("", pattern),
    };
    let head = head.replace(r"\.", "\0");
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !head.split('\0').all(plain) || !(head.is_empty() || head.ends_with('\0')) {
        return None;
    }
    let head = head.replace('\0', ".");
    let names = names.strip_prefix("?:").unwrap_or(names);
    names.split('|').map(|name| (plain(name) && !name.is_empty()).then(|| format!("{head}{name}"))).collect()
}

/// Whether `module` is `name` or ends in a dot and `name`.
fn ends_in(module: &str, name: &str) -> bool {
    module.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
