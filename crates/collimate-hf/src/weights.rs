//! Weights from a folder of safetensors files, memory-mapped and read tensor by tensor into float32.

mod header;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::blocks::TensorSpec;
use crate::error::{HfError, ShardError};
use crate::{plain_file, shards};

/// A float32 tensor in host memory.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values in row-major order.
    pub data: Vec<f32>,
}

impl HostTensor {
    /// A tensor with the given values.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Self {
        let shape = shape.into();
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        Self { shape, data }
    }

    /// A tensor of zeros.
    pub fn zeros(shape: impl Into<Vec<usize>>) -> Self {
        let shape = shape.into();
        let data = vec![0.0; shape.iter().product()];
        Self { shape, data }
    }
}

/// What [`WeightFiles::check`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WeightCheck {
    /// Tensors that the model needs; all are present.
    pub num_tensors: usize,
    /// Tensors that were ignored: rotary buffers of old files, the output layer of a tied model.
    pub num_ignored: usize,
}

/// The weights of a folder: one file, or shards with an index. Files are memory-mapped; tensors are read on demand.
#[derive(Debug)]
pub struct WeightFiles {
    path: PathBuf,
    files: Vec<MappedFile>,
    /// The file that holds each tensor, by its index in `files`.
    holders: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct MappedFile {
    path: PathBuf,
    bytes: Mmap,
    data_start: usize,
    header: Metadata,
}

impl WeightFiles {
    /// Maps the weights of a model folder and checks that files, headers and index agree.
    ///
    /// # Errors
    /// [`HfError`] if there are no weights, only pickled ones, or both a single file and an index; if a file is truncated
    /// or its header does not describe it; if index and shards disagree.
    pub fn open(dir: &Path) -> Result<Self, HfError> {
        let index = dir.join(shards::INDEX_FILE);
        let single = dir.join(shards::SINGLE_FILE);
        match (single.is_file(), index.is_file()) {
            (true, true) => Err(HfError::AmbiguousWeights { path: dir.to_owned() }),
            (true, false) => Ok(Self { path: dir.to_owned(), ..Self::open_file(&single)? }),
            (false, true) => Self::open_shards(dir, &index),
            (false, false) => Err(shards::no_weights(dir)),
        }
    }

    /// Maps one safetensors file.
    ///
    /// # Errors
    /// [`HfError`] if the file cannot be opened, is truncated or its header does not describe it.
    pub fn open_file(path: &Path) -> Result<Self, HfError> {
        let file = MappedFile::open(path)?;
        let holders = file.header.offset_keys().into_iter().map(|name| (name, 0)).collect();
        Ok(Self { path: path.to_owned(), files: vec![file], holders })
    }

    fn open_shards(dir: &Path, index: &Path) -> Result<Self, HfError> {
        let weight_map = shards::read_index(index)?;
        let names: BTreeSet<&String> = weight_map.values().collect();
        let names: Vec<&String> = names.into_iter().collect();
        let files = names.iter().map(|name| MappedFile::open(&dir.join(name))).collect::<Result<Vec<_>, _>>()?;
        let mut holders = BTreeMap::new();
        for (number, (shard, file)) in names.iter().zip(&files).enumerate() {
            for tensor in file.header.offset_keys() {
                let says = match weight_map.get(&tensor) {
                    Some(listed) if listed == *shard => None,
                    Some(listed) => Some(format!("puts in \"{listed}\"")),
                    None => Some("does not list".to_owned()),
                };
                if let Some(says) = says {
                    let (index, shard) = (index.to_owned(), (*shard).clone());
                    return Err(ShardError::NotInIndex { index, shard, tensor, says }.into());
                }
                holders.insert(tensor, number);
            }
        }
        if let Some((tensor, shard)) = weight_map.iter().find(|(tensor, _)| !holders.contains_key(*tensor)) {
            let (index, shard, tensor) = (index.to_owned(), shard.clone(), tensor.clone());
            return Err(ShardError::NotInShard { index, shard, tensor }.into());
        }
        Ok(Self { path: dir.to_owned(), files, holders })
    }

    /// Checks that the files hold exactly the `expected` tensors, in the right shapes and in supported types.
    ///
    /// Rotary buffers of old files (`….rotary_emb.inv_freq`) and the redundant `lm_head.weight` of a tied model are
    /// ignored and counted; the latter's values are not compared with the embedding.
    ///
    /// # Errors
    /// [`HfError`] naming the first missing, misshapen, unreadable or unexpected tensor.
    pub fn check(&self, expected: &[TensorSpec]) -> Result<WeightCheck, HfError> {
        let missing: Vec<_> = expected.iter().filter(|spec| !self.holders.contains_key(&spec.name)).collect();
        if let Some(first) = missing.first() {
            let (path, tensor) = (self.path.clone(), first.name.clone());
            return Err(HfError::MissingTensor { path, tensor, num_missing: missing.len() });
        }
        for spec in expected {
            let info = self.info(&spec.name)?.1;
            if info.shape != spec.shape {
                return Err(HfError::TensorShape {
                    path: self.path.clone(),
                    tensor: spec.name.clone(),
                    expected: spec.shape.clone(),
                    found: info.shape.clone(),
                });
            }
            self.readable(&spec.name, info.dtype)?;
        }
        let known: BTreeSet<&str> = expected.iter().map(|spec| spec.name.as_str()).collect();
        let extra: Vec<&str> = self.names().filter(|name| !known.contains(name)).collect();
        let unexpected: Vec<&str> = extra.iter().copied().filter(|name| !tolerated(name)).collect();
        if let Some(first) = unexpected.first() {
            let (path, tensor) = (self.path.clone(), (*first).to_owned());
            return Err(HfError::UnexpectedTensor { path, tensor, num_unexpected: unexpected.len() });
        }
        Ok(WeightCheck { num_tensors: expected.len(), num_ignored: extra.len() })
    }

    /// Reads one tensor; bfloat16 and float16 become float32 without loss. Its mapped pages are dropped afterwards, so
    /// that only the tensor stays in memory.
    ///
    /// # Errors
    /// [`HfError`] if the tensor does not exist, its dtype is not F32, BF16 or F16, or a value is not finite.
    pub fn read(&self, name: &str) -> Result<HostTensor, HfError> {
        let (file, info) = self.info(name)?;
        self.readable(name, info.dtype)?;
        let (start, end) = info.data_offsets;
        let bytes = &file.bytes[file.data_start + start..file.data_start + end];
        let data: Vec<f32> = match info.dtype {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect(),
            Dtype::BF16 => bytes.as_chunks().0.iter().map(|word| bf16::from_le_bytes(*word).to_f32()).collect(),
            _ => bytes.as_chunks().0.iter().map(|word| f16::from_le_bytes(*word).to_f32()).collect(),
        };
        file.release(start, end);
        finite(&file.path, name, &data)?;
        Ok(HostTensor { shape: info.shape.clone(), data })
    }

    /// The stored dtype of a tensor; `None` if it does not exist.
    pub fn dtype(&self, name: &str) -> Option<Dtype> {
        self.info(name).ok().map(|(_, info)| info.dtype)
    }

    /// The shape of a tensor; `None` if it does not exist.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.info(name).ok().map(|(_, info)| info.shape.as_slice())
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.holders.keys().map(String::as_str)
    }

    /// The files, sorted by name: the input of the model's hash.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// The total size of the files, in bytes.
    pub fn num_bytes(&self) -> usize {
        self.files.iter().map(|file| file.bytes.len()).sum()
    }

    fn info(&self, name: &str) -> Result<(&MappedFile, &TensorInfo), HfError> {
        let file = self.holders.get(name).map(|number| &self.files[*number]);
        file.and_then(|file| Some((file, file.header.info(name)?))).ok_or_else(|| HfError::MissingTensor {
            path: self.path.clone(),
            tensor: name.to_owned(),
            num_missing: 1,
        })
    }

    fn readable(&self, name: &str, dtype: Dtype) -> Result<(), HfError> {
        match dtype {
            Dtype::F32 | Dtype::BF16 | Dtype::F16 => Ok(()),
            other => Err(HfError::UnsupportedDtype {
                path: self.path.clone(),
                tensor: name.to_owned(),
                found: format!("{other:?}"),
            }),
        }
    }
}

impl MappedFile {
    fn open(path: &Path) -> Result<Self, HfError> {
        let file = plain_file::open(path)?;
        // SAFETY: the mapping is read-only. Its bytes change only if another process writes to the file in place;
        // Collimate itself writes new files and renames them, which leaves mapped ones unchanged.
        #[allow(unsafe_code)]
        let bytes = unsafe { Mmap::map(&file) }.map_err(HfError::io(path))?;
        let bad = |message: String| HfError::BadWeightFile { path: path.to_owned(), message };
        if bytes.starts_with(b"version https://git-lfs") {
            return Err(bad(
                "it is a Git LFS pointer, the weights themselves were not downloaded (git lfs pull)".into()
            ));
        }
        let (data_start, header) = header::parse(&bytes).map_err(bad)?;
        Ok(Self { path: path.to_owned(), bytes, data_start, header })
    }

    /// Drops mapped pages of the data; later reads fault them back in from the file.
    fn release(&self, start: usize, end: usize) {
        // SAFETY: the mapping is read-only and backed by a file, so dropped pages come back with the file's bytes.
        #[cfg(unix)]
        #[allow(unsafe_code)]
        let _ = unsafe {
            self.bytes.unchecked_advise_range(UncheckedAdvice::DontNeed, self.data_start + start, end - start)
        };
        #[cfg(not(unix))]
        let _ = (start, end);
    }
}

/// Rejects NaN and infinite weights, which would spread to everything computed from them.
fn finite(path: &Path, tensor: &str, data: &[f32]) -> Result<(), HfError> {
    match data.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => Err(HfError::WeightNotFinite {
            path: path.to_owned(),
            tensor: tensor.to_owned(),
            index,
            value: data[index],
        }),
    }
}

/// Tensors that files may contain beyond those of the model.
fn tolerated(name: &str) -> bool {
    name == "lm_head.weight" || name.ends_with(".rotary_emb.inv_freq")
}
