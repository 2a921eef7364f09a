//! Weights from a folder of safetensors files, memory-mapped and read tensor by tensor into float32.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use crate::error::ModelError;
use crate::names::TensorSpec;
use crate::{plain_file, shards};

/// The largest header, in bytes: what the format itself allows.
const MAX_HEADER_BYTES: usize = 100_000_000;

/// A tensor in the host's memory, row by row, in float32.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values; as many as the product of the shape.
    pub data: Vec<f32>,
}

impl HostTensor {
    /// A tensor of these values.
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

/// What [`WeightFiles::check`] tolerated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WeightCheck {
    /// Tensors that the model needs, all there.
    pub num_tensors: usize,
    /// Tensors that were passed over: rotary buffers of old files, the output embedding of a tied model.
    pub num_ignored: usize,
}

/// The weights of a folder: one file, or shards with an index. The files stay mapped, nothing is read until asked for.
#[derive(Debug)]
pub struct WeightFiles {
    path: PathBuf,
    files: Vec<MappedFile>,
    /// Which file holds a tensor.
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
    /// [`ModelError`] where there are none, only pickled ones, both one file and an index; where a file is cut short or
    /// its header does not match it; where the index names a shard or tensor that is not there, or a shard holds a
    /// tensor that the index does not give to it.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        let index = dir.join(shards::INDEX_FILE);
        let single = dir.join(shards::SINGLE_FILE);
        match (single.is_file(), index.is_file()) {
            (true, true) => Err(ModelError::AmbiguousWeights { path: dir.to_owned() }),
            (true, false) => Ok(Self { path: dir.to_owned(), ..Self::open_file(&single)? }),
            (false, true) => Self::open_shards(dir, &index),
            (false, false) => Err(shards::no_weights(dir)),
        }
    }

    /// Maps one safetensors file.
    ///
    /// # Errors
    /// [`ModelError`] where the file cannot be opened, is cut short or its header does not match it.
    pub fn open_file(path: &Path) -> Result<Self, ModelError> {
        let file = MappedFile::open(path)?;
        let holders = file.header.offset_keys().into_iter().map(|name| (name, 0)).collect();
        Ok(Self { path: path.to_owned(), files: vec![file], holders })
    }

    fn open_shards(dir: &Path, index: &Path) -> Result<Self, ModelError> {
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
                    return Err(ModelError::NotInIndex { index, shard, tensor, says });
                }
                holders.insert(tensor, number);
            }
        }
        if let Some((tensor, shard)) = weight_map.iter().find(|(tensor, _)| !holders.contains_key(*tensor)) {
            let (index, shard, tensor) = (index.to_owned(), shard.clone(), tensor.clone());
            return Err(ModelError::NotInShard { index, shard, tensor });
        }
        Ok(Self { path: dir.to_owned(), files, holders })
    }

    /// Checks that the tensors are exactly those `expected`, in shape and readable type.
    ///
    /// Passed over and counted: rotary buffers (`….rotary_emb.inv_freq`) that old files store, and `lm_head.weight`
    /// where it is not expected, that is where the embeddings are tied: its values are not compared.
    ///
    /// # Errors
    /// [`ModelError`] naming the first missing, misshapen, unreadable or unexpected tensor.
    pub fn check(&self, expected: &[TensorSpec]) -> Result<WeightCheck, ModelError> {
        let missing: Vec<_> = expected.iter().filter(|spec| !self.holders.contains_key(&spec.name)).collect();
        if let Some(first) = missing.first() {
            let (path, tensor) = (self.path.clone(), first.name.clone());
            return Err(ModelError::MissingTensor { path, tensor, num_missing: missing.len() });
        }
        for spec in expected {
            let info = self.info(&spec.name)?.1;
            if info.shape != spec.shape {
                return Err(ModelError::TensorShape {
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
            return Err(ModelError::UnexpectedTensor { path, tensor, num_unexpected: unexpected.len() });
        }
        Ok(WeightCheck { num_tensors: expected.len(), num_ignored: extra.len() })
    }

    /// Reads one tensor; bfloat16 and float16 become float32 without loss. The mapped bytes are let go of again, so that
    /// only the tensor stays in memory.
    ///
    /// # Errors
    /// [`ModelError`] where there is no such tensor or its type is not one of F32, BF16, F16.
    pub fn read(&self, name: &str) -> Result<HostTensor, ModelError> {
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

    /// The type that a tensor is stored in; none where there is no such tensor.
    pub fn dtype(&self, name: &str) -> Option<Dtype> {
        self.info(name).ok().map(|(_, info)| info.dtype)
    }

    /// The shape of a tensor; none where there is no such tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.info(name).ok().map(|(_, info)| info.shape.as_slice())
    }

    /// The names of all tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.holders.keys().map(String::as_str)
    }

    /// The files, in order of their names: what a hash of the model is taken over.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// The size of the files, in bytes.
    pub fn num_bytes(&self) -> usize {
        self.files.iter().map(|file| file.bytes.len()).sum()
    }

    fn info(&self, name: &str) -> Result<(&MappedFile, &TensorInfo), ModelError> {
        let file = self.holders.get(name).map(|number| &self.files[*number]);
        file.and_then(|file| Some((file, file.header.info(name)?))).ok_or_else(|| ModelError::MissingTensor {
            path: self.path.clone(),
            tensor: name.to_owned(),
            num_missing: 1,
        })
    }

    fn readable(&self, name: &str, dtype: Dtype) -> Result<(), ModelError> {
        match dtype {
            Dtype::F32 | Dtype::BF16 | Dtype::F16 => Ok(()),
            other => Err(ModelError::UnsupportedDtype {
                path: self.path.clone(),
                tensor: name.to_owned(),
                found: format!("{other:?}"),
            }),
        }
    }
}

impl MappedFile {
    fn open(path: &Path) -> Result<Self, ModelError> {
        let file = plain_file::open(path)?;
        // SAFETY: the mapping is read-only. Its bytes change only if another process writes into the file in place;
        // everything here writes to a new file and renames, which leaves a mapped file as it was.
        #[allow(unsafe_code)]
        let bytes = unsafe { Mmap::map(&file) }.map_err(ModelError::io(path))?;
        let bad = |message: String| ModelError::BadWeightFile { path: path.to_owned(), message };
        if bytes.starts_with(b"version https://git-lfs") {
            return Err(bad(
                "it is a Git LFS pointer, the weights themselves were not downloaded (git lfs pull)".into()
            ));
        }
        let (data_start, header) = header(&bytes).map_err(bad)?;
        Ok(Self { path: path.to_owned(), bytes, data_start, header })
    }

    /// Lets go of mapped pages of the data; who reads them again gets them from the file again.
    fn release(&self, start: usize, end: usize) {
        // SAFETY: the mapping is read-only and of a file, so dropped pages come back with the file's bytes.
        #[cfg(unix)]
        #[allow(unsafe_code)]
        let _ = unsafe {
            self.bytes.unchecked_advise_range(UncheckedAdvice::DontNeed, self.data_start + start, end - start)
        };
        #[cfg(not(unix))]
        let _ = (start, end);
    }
}

/// Refuses a weight that is not a number or infinite: all that is computed from it would be so too.
fn finite(path: &Path, tensor: &str, data: &[f32]) -> Result<(), ModelError> {
    match data.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(place) => Err(ModelError::WeightNotFinite {
            path: path.to_owned(),
            tensor: tensor.to_owned(),
            place,
            value: data[place],
        }),
    }
}

/// Where the data begin and what the header says, once that is sure to fit the file.
fn header(bytes: &[u8]) -> Result<(usize, Metadata), String> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(format!("{} bytes are too few for a header", bytes.len()));
    };
    let length = u64::from_le_bytes(*length);
    let header = usize::try_from(length).ok().and_then(|length| rest.get(..length));
    let Some(header) = header else {
        let found = bytes.len();
        return Err(format!("its header should have {length} bytes and the whole file has {found}: cut short?"));
    };
    if header.len() > MAX_HEADER_BYTES {
        return Err(format!("its header has {length} bytes, at most {MAX_HEADER_BYTES} are read"));
    }
    let once: Result<NamesOnce, _> = serde_json::from_slice(header);
    once.map_err(|error| format!("header: {error}"))?;
    let metadata: Metadata = serde_json::from_slice(header).map_err(|error| format!("header: {error}"))?;
    let (expected, found) = (metadata.data_len(), rest.len() - header.len());
    if expected != found {
        let cut = if found < expected { ": cut short?" } else { "" };
        return Err(format!("its header tells of {expected} bytes of data and there are {found}{cut}"));
    }
    Ok((8 + header.len(), metadata))
}

/// The names of a header, each given once; a plain parser keeps the last of two without a word.
struct NamesOnce;

impl<'de> Deserialize<'de> for NamesOnce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for NamesOnce {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut tensors: A) -> Result<Self, A::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = tensors.next_key::<String>()? {
            let IgnoredAny = tensors.next_value()?;
            if let Some(name) = names.replace(name) {
                return Err(A::Error::custom(format!("tensor \"{name}\" is given twice")));
            }
        }
        Ok(self)
    }
}

/// Tensors that files may hold beside those of the architecture.
fn tolerated(name: &str) -> bool {
    name == "lm_head.weight" || name.ends_with(".rotary_emb.inv_freq")
}
