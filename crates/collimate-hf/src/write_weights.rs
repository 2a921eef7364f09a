//! Writes safetensors files that appear complete or not at all, from tensors in any order, one in memory at a time.

mod layout;
mod tensor_file;
use std::path::Path;

use collimate_files::{ShardSize, WriteError, write_atomically};
use half::{bf16, f16};
use safetensors::Dtype;
use serde_json::{Map, Value, json};

use self::layout::{Layout, Whole};
use self::tensor_file::TensorFile;
use crate::blocks::TensorSpec;
use crate::config::ModelConfig;
use crate::error::HfError;
use crate::shards;
use crate::stacked::StoredTensor;
use crate::weights::{HostTensor, WeightFiles};
use crate::wrapped;

/// The dtype in which weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StorageDtype {
    /// float32.
    F32,
    /// bfloat16, rounded to nearest, ties to even.
    BF16,
    /// float16, rounded to nearest, ties to even.
    F16,
}

impl StorageDtype {
    /// Bytes of one value.
    pub fn num_bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    /// Its name in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::BF16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    /// The dtype with this name in `config.json` and recipes.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::F32, Self::BF16, Self::F16].into_iter().find(|dtype| dtype.name() == name)
    }

    /// The counterpart of a safetensors dtype, if any.
    pub fn from_stored(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::BF16 => Some(Self::BF16),
            Dtype::F16 => Some(Self::F16),
            _ => None,
        }
    }

    /// The value read back after storing `value`.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::BF16 => bf16::from_f32(value).to_f32(),
            Self::F16 => f16::from_f32(value).to_f32(),
        }
    }

    fn header_name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::BF16 => "BF16",
            Self::F16 => "F16",
        }
    }

    fn encode(self, data: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::BF16 => data.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            Self::F16 => data.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        }
    }
}

/// Writes tensors to one safetensors file, in the given order, with the metadata `{"format": "pt"}`.
///
/// The file appears complete or not at all: it is written under a temporary name, synced and renamed.
///
/// # Errors
/// [`HfError`] if the file cannot be written, a name is given twice, or a value is not finite in `dtype`.
pub fn write_safetensors(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, HostTensor)>,
    dtype: StorageDtype,
) -> Result<(), HfError> {
    let tensors: Vec<_> = tensors.into_iter().collect();
    let specs: Vec<_> = tensors.iter().map(|(name, tensor)| TensorSpec::new(name, &tensor.shape)).collect();
    write_safetensors_of(path, &specs, tensors, dtype)
}

/// Like [`write_safetensors`], with the shapes given first, so that only one tensor needs to be in memory.
///
/// # Errors
/// Those of [`write_safetensors`]; also if a tensor is missing, unexpected or misshapen.
pub fn write_safetensors_of(
    path: &Path,
    specs: &[TensorSpec],
    tensors: impl IntoIterator<Item = (String, HostTensor)>,
    dtype: StorageDtype,
) -> Result<(), HfError> {
    let stored: Vec<_> = specs.iter().cloned().map(StoredTensor::whole).collect();
    let mut file = TensorFile::create(path, &stored, &[], dtype)?;
    for (name, tensor) in tensors {
        file.put(&name, &tensor)?;
    }
    file.finish()
}

/// Writes a model: its weights, with an index if they do not fit into one shard, and then its `config.json`.
///
/// Tensors may arrive in any order and are written as they arrive, so that only one needs to be in memory.
/// `config.json` is the model's own, with the new dtype.
///
/// # Errors
/// [`HfError`] if a tensor is missing, unexpected, given twice, misshapen or not finite in `dtype`; if the folder holds
/// weights in other files, which would mix two models; if a file cannot be written.
pub fn write_model(
    dir: &Path,
    config: &ModelConfig,
    tensors: impl IntoIterator<Item = (String, HostTensor)>,
    dtype: StorageDtype,
    max_shard_size: ShardSize,
) -> Result<(), HfError> {
    write(dir, Whole { config, base: None }, tensors.into_iter().map(Ok), dtype, max_shard_size)
}

/// Like [`write_model`], for a model that was read from a folder: names are those of its files, and what stands beside a text
/// model there is written again, byte for byte. Its tensors may fail to be read.
///
/// # Errors
/// As [`write_model`]; also the first error of a tensor.
pub fn write_model_like(
    dir: &Path,
    config: &ModelConfig,
    base: &WeightFiles,
    tensors: impl IntoIterator<Item = Result<(String, HostTensor), HfError>>,
    dtype: StorageDtype,
    max_shard_size: ShardSize,
) -> Result<(), HfError> {
    write(dir, Whole { config, base: Some(base) }, tensors.into_iter(), dtype, max_shard_size)
}

/// [`write_model`] and [`write_model_like`].
fn write(
    dir: &Path,
    whole: Whole<'_>,
    tensors: impl Iterator<Item = Result<(String, HostTensor), HfError>>,
    dtype: StorageDtype,
    max_shard_size: ShardSize,
) -> Result<(), HfError> {
    std::fs::create_dir_all(dir).map_err(WriteError::at(dir))?;
    let layout = whole.layout(dtype, max_shard_size);
    no_other_weights(dir, &layout.names)?;
    let mut files = layout.create(dir, dtype)?;
    let shard_of = layout.parameter_shards();
    for tensor in tensors {
        let (name, tensor) = tensor?;
        let stored = whole.stored_name(&name);
        let Some(number) = shard_of.get(stored.as_str()) else {
            return Err(HfError::UnexpectedTensor { path: dir.to_owned(), tensor: name, num_unexpected: 1 });
        };
        files[*number].put(&stored, &tensor)?;
    }
    // Nothing is renamed before everything is complete.
    files.iter().try_for_each(TensorFile::complete)?;
    files.into_iter().try_for_each(TensorFile::finish)?;
    if layout.names.len() > 1 {
        write_index(dir, &layout)?;
    }
    let text = serde_json::to_string_pretty(&config_with_dtype(whole.config, dtype)).unwrap_or_default() + "\n";
    Ok(write_atomically(&dir.join("config.json"), text.as_bytes())?)
}

/// Checks that [`write_model_like`] can write there, before there is anything to write.
///
/// # Errors
/// The folder holds weights that are not overwritten, or another folder is where a file should be.
pub fn check_output(
    dir: &Path,
    config: &ModelConfig,
    base: Option<&WeightFiles>,
    dtype: StorageDtype,
    max_shard_size: ShardSize,
) -> Result<(), HfError> {
    if !dir.is_dir() {
        return Ok(());
    }
    let names = Whole { config, base }.layout(dtype, max_shard_size).names;
    no_other_weights(dir, &names)?;
    let taken = names.iter().map(|name| dir.join(name)).find(|path| path.is_dir());
    match taken {
        Some(path) => Err(HfError::NotAFile { path }),
        None => Ok(()),
    }
}

fn write_index(dir: &Path, layout: &Layout<'_>) -> Result<(), HfError> {
    let shard_of = layout.shards().into_iter();
    let weight_map: Map<String, Value> =
        shard_of.map(|(name, number)| (name.to_owned(), json!(layout.names[number]))).collect();
    let index = json!({
        "metadata": { "total_parameters": layout.num_parameters(), "total_size": layout.num_bytes },
        "weight_map": weight_map,
    });
    Ok(write_atomically(&dir.join(shards::INDEX_FILE), format!("{index:#}\n").as_bytes())?)
}

impl ModelConfig {
    /// The type that a tensor has in a file whose others are in `dtype`.
    pub fn stored_dtype(&self, tensor: &str, dtype: StorageDtype) -> StorageDtype {
        if self.keeps_float32(tensor) { StorageDtype::F32 } else { dtype }
    }
}

/// The field with the number of layers that predict further tokens.
const PREDICTORS: &str = "num_nextn_predict_layers";

/// The model's own `config.json` with the new dtype, under whichever of the two keys it uses.
fn config_with_dtype(config: &ModelConfig, dtype: StorageDtype) -> Value {
    let mut raw = config.raw.clone();
    if let Some(object) = raw.as_object_mut() {
        let key = if object.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
        object.insert(key.to_owned(), json!(dtype.name()));
        // Layers that predict further tokens are not written.
        if config.wrapper.is_none() && object.contains_key(PREDICTORS) {
            object.insert(PREDICTORS.to_owned(), json!(0));
        }
    }
    // A nested configuration that says it too must not say something else.
    let mut text = raw.get_mut(wrapped::TEXT).filter(|_| config.wrapper.is_some());
    for key in ["torch_dtype", "dtype"] {
        let stated = text.as_deref().and_then(|text| text.get(key)).is_some();
        if let Some(object) = text.as_deref_mut().and_then(Value::as_object_mut).filter(|_| stated) {
            object.insert(key.to_owned(), json!(dtype.name()));
        }
    }
    raw
}

/// Rejects a folder with weights in files that will not be overwritten: it would hold parts of two models.
fn no_other_weights(dir: &Path, names: &[String]) -> Result<(), HfError> {
    for entry in std::fs::read_dir(dir).map_err(HfError::io(dir))? {
        let name = entry.map_err(HfError::io(dir))?.file_name().to_string_lossy().into_owned();
        let ours = names.contains(&name) || (name == shards::INDEX_FILE && names.len() > 1);
        if shards::is_weight_file(&name) && !ours {
            let reason =
                format!("it holds \"{name}\", which is not part of this model; remove it or choose another folder");
            return Err(HfError::OutputTaken { path: dir.to_owned(), reason });
        }
    }
    Ok(())
}
