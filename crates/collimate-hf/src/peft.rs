//! LoRA adapters in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! An adapter adds `s · B A` to the weight of a linear layer, A [r, in], B [out, r] (arXiv 2106.09685).

mod config;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use collimate_files::{WriteError, write_atomically};

pub use self::config::{LoraConfig, LoraTargets};
use crate::blocks::{LinearSpec, linear_modules};
use crate::config::ModelConfig;
use crate::error::{AdapterError, HfError};
use crate::families::FAMILIES;
use crate::plain_file::read_json;
use crate::shards;
use crate::weights::{HostTensor, WeightFiles};
use crate::write_weights::{StorageDtype, write_safetensors};

/// The settings of an adapter.
pub(crate) const CONFIG_FILE: &str = "adapter_config.json";
/// The matrices of an adapter.
const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// PEFT's prefix of module names.
const PREFIX: &str = "base_model.model.";
/// Longer names are truncated in errors and get no suggestion, whose cost grows with their length.
const MAX_HINT_CHARACTERS: usize = 200;
/// Number of modules to search for a suggestion: those of the first fifty layers.
const MAX_HINT_MODULES: usize = 350;
const A_SUFFIX: &str = ".lora_A.weight";
const B_SUFFIX: &str = ".lora_B.weight";

/// A LoRA adapter: its settings, and two matrices for each module.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// Rank, scale and targets.
    pub config: LoraConfig,
    /// A [r, in] and B [out, r] by module: `model.layers.0.self_attn.q_proj`.
    pub modules: BTreeMap<String, (HostTensor, HostTensor)>,
}

impl LoraConfig {
    /// Reads the settings of an adapter's folder, without its matrices.
    ///
    /// # Errors
    /// Those of [`LoraConfig::from_json`]; also if the folder has no settings.
    pub fn from_dir(dir: &Path) -> Result<Self, HfError> {
        let path = dir.join(CONFIG_FILE);
        if !path.is_file() {
            let remedy = "an adapter's folder has its settings there".to_owned();
            return Err(HfError::MissingFile { path, remedy });
        }
        Self::from_json(&path, &read_json(&path)?)
    }
}

impl Adapter {
    /// Reads an adapter's folder strictly: every tensor belongs to a linear module of the model and has the right shape,
    /// every module has both matrices, and no targeted module is missing.
    ///
    /// # Errors
    /// [`HfError`] naming the file and the setting, tensor or module: not a plain LoRA adapter, pickled, or not of
    /// this model.
    pub fn read(dir: &Path, model: &ModelConfig) -> Result<Self, HfError> {
        let config = LoraConfig::from_dir(dir)?;
        let path = dir.join(WEIGHTS_FILE);
        if !path.is_file() {
            let remedy = "an adapter's folder has its matrices there".to_owned();
            return Err(match shards::pickle_in(dir) {
                Some(path) => HfError::PickledWeights { path },
                None => HfError::MissingFile { path, remedy },
            });
        }
        let weights = WeightFiles::open_file(&path)?;
        let linears = linear_modules(model);
        let present = modules_of_keys(&path, &weights, &linears)?;
        let targeted: Vec<_> = linears.iter().filter(|linear| config.matches(&linear.module)).collect();
        let missing: Vec<_> = targeted.iter().filter(|linear| !present.contains(linear.module.as_str())).collect();
        if let Some(first) = missing.first() {
            let module = first.module.clone();
            return Err(AdapterError::ModuleMissing { path, module, num_missing: missing.len() }.into());
        }
        if present.is_empty() {
            // The file has no tensors because the targets match nothing: name the target.
            config.target_modules(model)?;
        }
        let mut modules = BTreeMap::new();
        for linear in linears.iter().filter(|linear| present.contains(linear.module.as_str())) {
            if !config.matches(&linear.module) {
                let key = format!("{PREFIX}{}{A_SUFFIX}", linear.module);
                let hint = ", for it is not among the adapter's target_modules".to_owned();
                return Err(AdapterError::UnknownKey { path, key, hint }.into());
            }
            modules.insert(linear.module.clone(), matrices(&path, &weights, linear, config.r)?);
        }
        Ok(Self { config, modules })
    }

    /// Writes the adapter for PEFT and [`Adapter::read`]: in float32, with `all-linear` spelled out.
    ///
    /// # Errors
    /// [`HfError`] if the folder or a file cannot be written.
    pub fn write(&self, dir: &Path) -> Result<(), HfError> {
        fs::create_dir_all(dir).map_err(WriteError::of(dir))?;
        let tensors = self.modules.iter().flat_map(|(module, (a, b))| {
            [(format!("{PREFIX}{module}{A_SUFFIX}"), a.clone()), (format!("{PREFIX}{module}{B_SUFFIX}"), b.clone())]
        });
        write_safetensors(&dir.join(WEIGHTS_FILE), tensors, StorageDtype::F32)?;
        let leaves: BTreeSet<&str> = self.modules.keys().map(|module| leaf(module)).collect();
        // PEFT refuses an adapter with dropout on the bare parameters that transformers 5 uses for experts and routers.
        // Dropout only matters in training, which takes it from the recipe.
        let dropout = if self.modules.keys().any(|module| is_bare(module)) { 0.0 } else { self.config.dropout };
        let json = self.config.to_json(&leaves.into_iter().collect::<Vec<_>>(), dropout);
        Ok(write_atomically(&dir.join(CONFIG_FILE), format!("{json:#}\n").as_bytes())?)
    }

    /// The number of values in its matrices.
    pub fn num_parameters(&self) -> usize {
        self.modules.values().map(|(a, b)| a.data.len() + b.data.len()).sum()
    }
}

/// Whether a module is an expert or a router, of any family.
fn is_bare(module: &str) -> bool {
    let mut names = FAMILIES.iter().map(|family| &family.names);
    names.any(|names| module.ends_with(names.router) || module.contains(names.experts))
}

/// The last part of a module's name.
pub(crate) fn leaf(module: &str) -> &str {
    module.rsplit('.').next().unwrap_or(module)
}

/// The modules that have matrices. Every key must belong to one of them, and each must have both.
fn modules_of_keys<'a>(
    path: &Path,
    weights: &WeightFiles,
    linears: &'a [LinearSpec],
) -> Result<BTreeSet<&'a str>, HfError> {
    let mut found: BTreeMap<&str, (bool, bool)> = BTreeMap::new();
    let known: BTreeMap<&str, &LinearSpec> = linears.iter().map(|linear| (linear.module.as_str(), linear)).collect();
    for key in weights.names() {
        let module = key.strip_prefix(PREFIX).unwrap_or("");
        let a = module.strip_suffix(A_SUFFIX);
        let name = a.or_else(|| module.strip_suffix(B_SUFFIX));
        let linear = name.and_then(|name| known.get(name));
        let Some(linear) = linear else {
            let (hint, key) = (hint(key, name, linears), key.chars().take(MAX_HINT_CHARACTERS).collect());
            return Err(AdapterError::UnknownKey { path: path.to_owned(), key, hint }.into());
        };
        let halves = found.entry(&linear.module).or_default();
        if a.is_some() { halves.0 = true } else { halves.1 = true }
    }
    for (module, halves) in &found {
        let missing = match halves {
            (true, true) => continue,
            (true, false) => "lora_B",
            _ => "lora_A",
        };
        let module = (*module).to_owned();
        return Err(AdapterError::HalfMissing { path: path.to_owned(), module, missing }.into());
    }
    Ok(found.into_keys().collect())
}

/// A guess at what a key that matches nothing was meant to be.
fn hint(key: &str, module: Option<&str>, linears: &[LinearSpec]) -> String {
    if key.contains("lora_magnitude_vector") {
        return ": DoRA is not supported, train with use_dora false".to_owned();
    }
    let Some(module) = module else {
        return format!(
            ": keys read \"{PREFIX}MODULE{A_SUFFIX}\" or \"{PREFIX}MODULE{B_SUFFIX}\"; whole layers saved beside the \
             matrices (modules_to_save, resized embeddings) are not supported"
        );
    };
    if module.len() > MAX_HINT_CHARACTERS {
        return String::new();
    }
    let nearest =
        linears.iter().take(MAX_HINT_MODULES).min_by_key(|linear| strsim::damerau_levenshtein(&linear.module, module));
    nearest.map(|linear| format!("; the nearest is \"{}\"", linear.module)).unwrap_or_default()
}

fn matrices(
    path: &Path,
    weights: &WeightFiles,
    linear: &LinearSpec,
    r: usize,
) -> Result<(HostTensor, HostTensor), HfError> {
    let read = |suffix, expected: [usize; 2]| {
        let key = format!("{PREFIX}{}{suffix}", linear.module);
        let tensor = weights.read(&key)?;
        if tensor.shape != expected {
            let (path, expected, found) = (path.to_owned(), expected.to_vec(), tensor.shape);
            return Err(HfError::TensorShape { path, tensor: key, expected, found });
        }
        Ok(tensor)
    };
    Ok((read(A_SUFFIX, [r, linear.in_features])?, read(B_SUFFIX, [linear.out_features, r])?))
}
