//! Writing weights: safetensors files that appear whole or not at all, tensors in any order, little memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use collimate_files::{AtomicFile, WriteError, write_atomically};
use half::{bf16, f16};
use safetensors::Dtype;
use serde_json::{Map, Value, json};

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::names::TensorSpec;
use crate::shard_size::ShardSize;
use crate::shards;
use crate::weights::HostTensor;

/// The type that weights are stored in.
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

    /// The type of a name as `config.json` and recipes have it.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::F32, Self::BF16, Self::F16].into_iter().find(|dtype| dtype.name() == name)
    }

    /// The type of a stored tensor, where it is one of these.
    pub fn from_stored(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::BF16 => Some(Self::BF16),
            Dtype::F16 => Some(Self::F16),
            _ => None,
        }
    }

    /// A value as it comes back after it was stored.
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

/// Writes tensors to one safetensors file, in their order, with metadata `{"format": "pt"}`.
///
/// The file appears whole or not at all: it is written beside its place, synced and renamed.
///
/// # Errors
/// [`ModelError`] where the file cannot be written, a name is given twice, or a finite value overflows float16.
pub fn write_safetensors(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, HostTensor)>,
    dtype: StorageDtype,
) -> Result<(), ModelError> {
    let tensors: Vec<_> = tensors.into_iter().collect();
    let specs: Vec<_> = tensors.iter().map(|(name, tensor)| TensorSpec::new(name, &tensor.shape)).collect();
    write_safetensors_of(path, &specs, tensors, dtype)
}

/// [`write_safetensors`] of tensors whose shapes are known before they come, so that only one need be in memory.
///
/// # Errors
/// As [`write_safetensors`], and where a tensor is missing, unexpected or misshapen.
pub fn write_safetensors_of(
    path: &Path,
    specs: &[TensorSpec],
    tensors: impl IntoIterator<Item = (String, HostTensor)>,
    dtype: StorageDtype,
) -> Result<(), ModelError> {
    let mut file = TensorFile::create(path, specs, dtype)?;
    for (name, tensor) in tensors {
        file.put(&name, &tensor)?;
    }
    file.finish()
}

/// Writes a model: its weights, with an index where they do not fit one shard, and then its `config.json`.
///
/// Tensors may come in any order and are written as they come, so that only one need be in memory. `config.json` is
/// the model's own with the new dtype.
///
/// # Errors
/// [`ModelError`] where a tensor is missing, unexpected, given twice or misshapen; where the folder holds weights in
/// other files, which would then be a mixture; or where a file cannot be written.
pub fn write_model(
    dir: &Path,
    config: &ModelConfig,
    tensors: impl IntoIterator<Item = (String, HostTensor)>,
    dtype: StorageDtype,
    max_shard_size: ShardSize,
) -> Result<(), ModelError> {
    try_write_model(dir, config, tensors.into_iter().map(Ok), dtype, max_shard_size)
}

/// [`write_model`] of tensors that may fail to come.
pub(crate) fn try_write_model(
    dir: &Path,
    config: &ModelConfig,
    tensors: impl Iterator<Item = Result<(String, HostTensor), ModelError>>,
    dtype: StorageDtype,
    max_shard_size: ShardSize,
) -> Result<(), ModelError> {
    std::fs::create_dir_all(dir).map_err(WriteError::of(dir))?;
    let specs = config.tensors();
    let sizes: Vec<_> = specs.iter().map(|spec| spec.num_elements() * dtype.num_bytes()).collect();
    let ranges = shards::divide(&sizes, max_shard_size.bytes());
    let names: Vec<_> = (1..=ranges.len()).map(|number| shards::file_name(number, ranges.len())).collect();
    no_other_weights(dir, &names)?;
    let mut files = Vec::new();
    let mut places = BTreeMap::new();
    for (number, range) in ranges.into_iter().enumerate() {
        files.push(TensorFile::create(&dir.join(&names[number]), &specs[range.clone()], dtype)?);
        places.extend(specs[range].iter().map(|spec| (spec.name.as_str(), number)));
    }
    for tensor in tensors {
        let (name, tensor) = tensor?;
        let Some(number) = places.get(name.as_str()) else {
            return Err(ModelError::UnexpectedTensor { path: dir.to_owned(), tensor: name, num_unexpected: 1 });
        };
        files[*number].put(&name, &tensor)?;
    }
    // Nothing is renamed before everything is complete.
    files.iter().try_for_each(TensorFile::complete)?;
    files.into_iter().try_for_each(TensorFile::finish)?;
    if names.len() > 1 {
        write_index(dir, &specs, &names, &places, sizes.iter().sum())?;
    }
    let text = serde_json::to_string_pretty(&config_with_dtype(config, dtype)).unwrap_or_default() + "\n";
    Ok(write_atomically(&dir.join("config.json"), text.as_bytes())?)
}

fn write_index(
    dir: &Path,
    specs: &[TensorSpec],
    files: &[String],
    places: &BTreeMap<&str, usize>,
    total_size: usize,
) -> Result<(), ModelError> {
    let total_parameters: usize = specs.iter().map(TensorSpec::num_elements).sum();
    let weight_map: Map<String, Value> =
        places.iter().map(|(name, number)| ((*name).to_owned(), json!(files[*number]))).collect();
    let index = json!({
        "metadata": { "total_parameters": total_parameters, "total_size": total_size },
        "weight_map": weight_map,
    });
    Ok(write_atomically(&dir.join(shards::INDEX_FILE), format!("{index:#}\n").as_bytes())?)
}

/// The model's own configuration with the dtype that is now stored, under the key that it uses.
fn config_with_dtype(config: &ModelConfig, dtype: StorageDtype) -> Value {
    let mut raw = config.raw.clone();
    if let Some(object) = raw.as_object_mut() {
        let key = if object.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
        object.insert(key.to_owned(), json!(dtype.name()));
    }
    raw
}

/// Weights in files other than those about to be written would make the folder ambiguous.
fn no_other_weights(dir: &Path, names: &[String]) -> Result<(), ModelError> {
    for entry in std::fs::read_dir(dir).map_err(ModelError::io(dir))? {
        let name = entry.map_err(ModelError::io(dir))?.file_name().to_string_lossy().into_owned();
        let ours = names.contains(&name) || (name == shards::INDEX_FILE && names.len() > 1);
        if shards::is_weight_file(&name) && !ours {
            let reason =
                format!("it holds \"{name}\" of another division into files; remove it or choose another folder");
            return Err(ModelError::OutputTaken { path: dir.to_owned(), reason });
        }
    }
    Ok(())
}

/// One safetensors file being written: the header first, then each tensor at its place, in any order.
struct TensorFile {
    path: PathBuf,
    file: AtomicFile,
    dtype: StorageDtype,
    /// Shape and place in the file, by name.
    slots: BTreeMap<String, (Vec<usize>, u64)>,
    waiting: BTreeSet<String>,
}

impl TensorFile {
    fn create(path: &Path, specs: &[TensorSpec], dtype: StorageDtype) -> Result<Self, ModelError> {
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
        let mut slots = BTreeMap::new();
        let mut offset = 0;
        for spec in specs {
            let end = offset + spec.num_elements() * dtype.num_bytes();
            let entry = json!({ "dtype": dtype.header_name(), "shape": spec.shape, "data_offsets": [offset, end] });
            if header.insert(spec.name.clone(), entry).is_some() {
                return Err(ModelError::DuplicateTensor { path: path.to_owned(), tensor: spec.name.clone() });
            }
            slots.insert(spec.name.clone(), (spec.shape.clone(), offset as u64));
            offset = end;
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        // The data begin at a multiple of 8 bytes, as the format wants; spaces are harmless in JSON.
        header.resize(header.len().next_multiple_of(8), b' ');
        let data_start = 8 + header.len() as u64;
        slots.values_mut().for_each(|(_, offset)| *offset += data_start);
        let waiting = slots.keys().cloned().collect();
        let mut file = AtomicFile::create(path)?;
        let write = |file: &mut AtomicFile| {
            file.write_all(&(header.len() as u64).to_le_bytes())?;
            file.write_all(&header)
        };
        write(&mut file).map_err(WriteError::of(path))?;
        Ok(Self { path: path.to_owned(), file, dtype, slots, waiting })
    }

    fn put(&mut self, name: &str, tensor: &HostTensor) -> Result<(), ModelError> {
        let path = || self.path.clone();
        let Some((shape, offset)) = self.slots.get(name) else {
            return Err(ModelError::UnexpectedTensor { path: path(), tensor: name.to_owned(), num_unexpected: 1 });
        };
        let fits = *shape == tensor.shape && tensor.data.len() == shape.iter().product::<usize>();
        if !fits {
            let found = if *shape == tensor.shape { vec![tensor.data.len()] } else { tensor.shape.clone() };
            let (tensor, expected) = (name.to_owned(), shape.clone());
            return Err(ModelError::TensorShape { path: path(), tensor, expected, found });
        }
        if !self.waiting.remove(name) {
            return Err(ModelError::DuplicateTensor { path: path(), tensor: name.to_owned() });
        }
        let too_large = |x: &&f32| x.is_finite() && self.dtype.round(**x).is_infinite();
        if let Some(value) = tensor.data.iter().find(too_large) {
            let (tensor, dtype) = (name.to_owned(), self.dtype.name().to_owned());
            return Err(ModelError::ValueTooLarge { path: path(), tensor, value: *value, dtype });
        }
        let offset = SeekFrom::Start(*offset);
        // A block at a time: the encoded copy of a large embedding need not lie in memory whole.
        let mut write = || {
            self.file.seek(offset)?;
            tensor.data.chunks(1 << 20).try_for_each(|block| self.file.write_all(&self.dtype.encode(block)))
        };
        Ok(write().map_err(WriteError::of(&self.path))?)
    }

    fn complete(&self) -> Result<(), ModelError> {
        match self.waiting.first() {
            None => Ok(()),
            Some(tensor) => Err(ModelError::MissingTensor {
                path: self.path.clone(),
                tensor: tensor.clone(),
                num_missing: self.waiting.len(),
            }),
        }
    }

    fn finish(self) -> Result<(), ModelError> {
        self.complete()?;
        Ok(self.file.commit()?)
    }
}
