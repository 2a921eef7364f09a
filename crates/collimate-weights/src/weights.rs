//! Weights from a folder of safetensors files, memory-mapped and read tensor by tensor into float32.

mod check;
mod header;
mod kept;
mod mapped;
mod names;
mod packed;
mod parts;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use collimate_hf::{Family, HfError, HostTensor, ShardError, StatedText, Wrapper, read_json};
use collimate_quantized::QuantizationConfig;
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

pub use self::check::WeightCheck;
pub use self::kept::KeptTensor;
use self::mapped::{MappedFile, finite};
pub use self::packed::Storage;
use self::parts::Part;
use crate::shards;

/// The embedding of every family, and that of a text model inside an image-and-text one.
const EMBEDDINGS: [&str; 2] = ["model.embed_tokens.weight", "model.language_model.embed_tokens.weight"];

/// The weights of a folder: one file, or shards with an index. Files are memory-mapped; tensors are read on demand.
#[derive(Debug)]
pub struct WeightFiles {
    path: PathBuf,
    files: Vec<MappedFile>,
    holders: BTreeMap<String, Holder>,
    /// What was passed over when the files were opened.
    notes: Vec<String>,
    /// How weights are packed, as `config.json` says.
    quantization: Option<QuantizationConfig>,
}

/// Where a tensor is.
#[derive(Debug)]
struct Holder {
    /// The file, by its index.
    file: usize,
    /// The tensor's name in the file, if it is another one there.
    stored: Option<Box<str>>,
    /// Which part of that tensor it is, if it is not all of it.
    part: Option<Box<Part>>,
}

impl Holder {
    /// Of a whole tensor with this name.
    fn whole(file: usize) -> Self {
        Self { file, stored: None, part: None }
    }
}

impl WeightFiles {
    /// Maps the weights of a model folder and checks that files, headers and index agree.
    ///
    /// A single file is taken before an index, as transformers does. Names lose the prefixes of wrappers (`module.`,
    /// `_orig_mod.`, `base_model.model.`) and get `model.` where a file leaves it out.
    ///
    /// # Errors
    /// [`HfError`] if there are no weights, or only pickled ones; if a file is truncated or its header does not describe it;
    /// if index and shards disagree.
    pub fn open(dir: &Path) -> Result<Self, HfError> {
        let index = dir.join(shards::INDEX_FILE);
        let single = dir.join(shards::SINGLE_FILE);
        let mut weights = match (single.is_file(), index.is_file()) {
            (true, _) => Self::open_file(&single)?,
            (false, true) => Self::open_shards(dir, &index)?,
            (false, false) => return Err(shards::no_weights(dir)),
        };
        dir.clone_into(&mut weights.path);
        if single.is_file() && index.is_file() {
            let (dir, single, index) = (dir.display(), shards::SINGLE_FILE, shards::INDEX_FILE);
            weights.notes.push(format!("{dir}: {single} is read, {index} beside it is passed over"));
        }
        // What cannot be read there is reported by whoever reads the configuration.
        let path = dir.join("config.json");
        let config = read_json(&path).ok();
        if !config.as_ref().is_some_and(Family::names_are_its_own) {
            weights.rename()?;
        }
        let text = config.as_ref().and_then(|config| StatedText::of(&path, config));
        match text.as_ref().and_then(|text| text.wrapper) {
            None => weights.take_out_of_wrapper()?,
            Some(wrapper) if wrapper.is_flat => weights.add_prefixes(wrapper)?,
            Some(_) => {}
        }
        if let Some(text) = &text {
            weights.tie(text);
            weights.divide(text)?;
        }
        let quantization = config.as_ref().and_then(|config| config.get("quantization_config"));
        weights.quantization = quantization.and_then(|value| QuantizationConfig::from_json(value).ok());
        Ok(weights)
    }

    /// A tied model may have been saved with its output layer alone, which is its embedding then, as in transformers.
    fn tie(&mut self, text: &StatedText) {
        let head = self.holders.get_key_value("lm_head.weight");
        let head = head.map(|(name, head)| (head.file, head.stored.clone().unwrap_or_else(|| name.as_str().into())));
        let has_none = !EMBEDDINGS.iter().any(|name| self.holders.contains_key(*name));
        if let Some((file, stored)) = head.filter(|_| has_none && text.is_tied) {
            let embedding = EMBEDDINGS[usize::from(text.wrapper.is_some())];
            self.holders.insert(embedding.to_owned(), Holder { file, stored: Some(stored), part: None });
        }
    }

    /// Gives tensors the names that transformers saves them under.
    fn rename(&mut self) -> Result<(), HfError> {
        let names: Vec<&str> = self.holders.keys().map(String::as_str).collect();
        let Some(renamed) = names::plain_names(&names) else { return Ok(()) };
        self.give_names(renamed)
    }

    /// transformers saves a text model that it took out of an image-and-text folder under that folder's names.
    fn take_out_of_wrapper(&mut self) -> Result<(), HfError> {
        if EMBEDDINGS.map(|name| self.holders.contains_key(name)) != [false, true] {
            return Ok(());
        }
        let outside = |name: &String| match name.strip_prefix("model.language_model.") {
            Some(rest) => format!("model.{rest}"),
            None => name.clone(),
        };
        self.give_names(self.holders.keys().map(outside).collect())
    }

    /// Files of the hub may lack prefixes that transformers' names have.
    fn add_prefixes(&mut self, wrapper: &Wrapper) -> Result<(), HfError> {
        self.give_names(self.holders.keys().map(|name| wrapper.name_here(name)).collect())
    }

    /// Gives tensors, in the order of their names, other ones.
    fn give_names(&mut self, renamed: Vec<String>) -> Result<(), HfError> {
        let mut holders = BTreeMap::new();
        for (name, (old, mut holder)) in renamed.into_iter().zip(std::mem::take(&mut self.holders)) {
            let stored = holder.stored.take().unwrap_or_else(|| old.into_boxed_str());
            holder.stored = (*name != *stored).then_some(stored);
            if holders.insert(name.clone(), holder).is_some() {
                return Err(HfError::DuplicateTensor { path: self.path.clone(), tensor: name });
            }
        }
        self.holders = holders;
        Ok(())
    }

    /// Maps one safetensors file.
    ///
    /// # Errors
    /// [`HfError`] if the file cannot be opened, is truncated or its header does not describe it.
    pub fn open_file(path: &Path) -> Result<Self, HfError> {
        let file = MappedFile::open(path)?;
        let holders = file.header.names().map(|name| (name.to_owned(), Holder::whole(0))).collect();
        Ok(Self { path: path.to_owned(), files: vec![file], holders, notes: Vec::new(), quantization: None })
    }

    fn open_shards(dir: &Path, index: &Path) -> Result<Self, HfError> {
        let weight_map = shards::read_index(index)?;
        let names: BTreeSet<&String> = weight_map.values().collect();
        let names: Vec<&String> = names.into_iter().collect();
        let files = names.iter().map(|name| MappedFile::open(&dir.join(name))).collect::<Result<Vec<_>, _>>()?;
        let mut holders = BTreeMap::new();
        for (number, (shard, file)) in names.iter().zip(&files).enumerate() {
            for tensor in file.header.names() {
                let says = match weight_map.get(tensor) {
                    Some(listed) if listed == *shard => None,
                    Some(listed) => Some(format!("puts in \"{listed}\"")),
                    None => Some("does not list".to_owned()),
                };
                if let Some(says) = says {
                    let (index, shard, tensor) = (index.to_owned(), (*shard).clone(), tensor.to_owned());
                    return Err(ShardError::NotInIndex { index, shard, tensor, says }.into());
                }
                holders.insert(tensor.to_owned(), Holder::whole(number));
            }
        }
        if let Some((tensor, shard)) = weight_map.iter().find(|(tensor, _)| !holders.contains_key(*tensor)) {
            let (index, shard, tensor) = (index.to_owned(), shard.clone(), tensor.clone());
            return Err(ShardError::NotInShard { index, shard, tensor }.into());
        }
        Ok(Self { path: dir.to_owned(), files, holders, notes: Vec::new(), quantization: None })
    }

    /// Whether two tensors hold the same numbers; `None` if one of them is not there or cannot be read.
    pub(crate) fn are_equal(&self, first: &str, second: &str) -> Option<bool> {
        let ((one_file, one), (other_file, other)) = (self.info(first).ok()?, self.info(second).ok()?);
        if one.shape != other.shape {
            return Some(false);
        }
        if one.dtype != other.dtype {
            return Some(self.read(first).ok()? == self.read(second).ok()?);
        }
        let equal = one_file.bytes[one_file.range(one)] == other_file.bytes[other_file.range(other)];
        one_file.release(one.data_offsets.0, one.data_offsets.1);
        other_file.release(other.data_offsets.0, other.data_offsets.1);
        Some(equal)
    }

    /// Reads one tensor; bfloat16 and float16 become float32 without loss, and a packed weight is unpacked. Its mapped pages are dropped afterwards, so
    /// that only the tensor stays in memory.
    ///
    /// # Errors
    /// [`HfError`] if the tensor does not exist, its dtype is not F32, BF16 or F16, or a value is not finite.
    pub fn read(&self, name: &str) -> Result<HostTensor, HfError> {
        if let Some(packed) = self.read_packed(name, None, Storage::Mapped)? {
            return self.unpacked(name, &packed);
        }
        let (file, info) = self.info(name)?;
        self.readable(name, info.dtype)?;
        let (start, end) = info.data_offsets;
        let data = floats(info.dtype, &self.numbers(name, file, info));
        file.release(start, end);
        finite(&file.path, name, 0, &data)?;
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
        let found = self.holders.get(name).and_then(|holder| {
            let file = &self.files[holder.file];
            let info = match &holder.part {
                Some(part) => &part.info,
                None => file.header.info(holder.stored.as_deref().unwrap_or(name))?,
            };
            Some((file, info))
        });
        found.ok_or_else(|| HfError::MissingTensor { path: self.path.clone(), tensor: name.to_owned(), num_missing: 1 })
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

/// Numbers as a file has them, in float32.
fn floats(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|word| bf16::from_le_bytes(*word).to_f32()).collect(),
        _ => bytes.as_chunks().0.iter().map(|word| f16::from_le_bytes(*word).to_f32()).collect(),
    }
}
