//! A safetensors file being written.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use collimate_files::{AtomicFile, WriteError};
use collimate_hf::{HfError, HostTensor, UnsavedError};
use serde_json::{Map, Value, json};

use crate::stacked::{Place, StoredPart, StoredTensor, View};
use crate::storage_dtype::StorageDtype;
use crate::weights::KeptTensor;

/// A safetensors file being written: first the header, then each tensor at its offset, in any order.
pub(super) struct TensorFile {
    path: PathBuf,
    file: AtomicFile,
    /// Where tensors go, by the names that they are given under.
    slots: BTreeMap<String, Slot>,
    waiting: BTreeSet<String>,
    /// Blocks of the file that several tensors share, by their offset, until all of these are there.
    blocks: BTreeMap<u64, Block>,
}

/// The place of a tensor.
struct Slot {
    view: View,
    dtype: StorageDtype,
    /// Of the view's block in the file.
    offset: u64,
}

/// Numbers of a block, and how many are still missing.
struct Block {
    numbers: Vec<f32>,
    missing: usize,
}

impl TensorFile {
    /// A file of tensors that are yet to come, and of others that are written as they are.
    pub(super) fn create(path: &Path, tensors: &[StoredTensor], kept: &[KeptTensor<'_>]) -> Result<Self, HfError> {
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
        let mut slots = BTreeMap::new();
        let mut offset = 0;
        for StoredTensor { spec, parts, dtype } in tensors {
            let end = offset + spec.num_elements() * dtype.num_bytes();
            let entry = json!({ "dtype": dtype.header_name(), "shape": spec.shape, "data_offsets": [offset, end] });
            if header.insert(spec.name.clone(), entry).is_some() {
                return Err(HfError::DuplicateTensor { path: path.to_owned(), tensor: spec.name.clone() });
            }
            for StoredPart { name, place } in parts {
                let Place::Plain(view) = place else { continue };
                let start = offset + view.block.start * dtype.num_bytes();
                slots.insert(name.clone(), Slot { view: view.clone(), dtype: *dtype, offset: start as u64 });
            }
            offset = end;
        }
        let first_kept = offset as u64;
        for KeptTensor { name, dtype, shape, bytes } in kept {
            let end = offset + bytes.len();
            let entry = json!({ "dtype": format!("{dtype:?}"), "shape": shape, "data_offsets": [offset, end] });
            if header.insert((*name).to_owned(), entry).is_some() {
                return Err(HfError::DuplicateTensor { path: path.to_owned(), tensor: (*name).to_owned() });
            }
            offset = end;
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        // The format aligns the data to 8 bytes; trailing spaces are valid JSON.
        header.resize(header.len().next_multiple_of(8), b' ');
        let data_start = 8 + header.len() as u64;
        slots.values_mut().for_each(|slot| slot.offset += data_start);
        let waiting = slots.keys().cloned().collect();
        let mut file = AtomicFile::create(path)?;
        let write = |file: &mut AtomicFile| {
            file.write_all(&(header.len() as u64).to_le_bytes())?;
            file.write_all(&header)?;
            if !kept.is_empty() {
                file.seek(SeekFrom::Start(data_start + first_kept))?;
            }
            kept.iter().try_for_each(|tensor| file.write_all(tensor.bytes))
        };
        write(&mut file).map_err(WriteError::at(path))?;
        Ok(Self { path: path.to_owned(), file, slots, waiting, blocks: BTreeMap::new() })
    }

    pub(super) fn put(&mut self, name: &str, tensor: &HostTensor) -> Result<(), HfError> {
        let path = || self.path.clone();
        let Some(Slot { view, dtype, offset }) = self.slots.get(name) else {
            return Err(HfError::UnexpectedTensor { path: path(), tensor: name.to_owned(), num_unexpected: 1 });
        };
        let (shape, dtype) = (&view.shape, *dtype);
        let fits = *shape == tensor.shape && tensor.data.len() == shape.iter().product::<usize>();
        if !fits {
            let found = if *shape == tensor.shape { vec![tensor.data.len()] } else { tensor.shape.clone() };
            let (tensor, expected) = (name.to_owned(), shape.clone());
            return Err(HfError::TensorShape { path: path(), tensor, expected, found });
        }
        if !self.waiting.remove(name) {
            return Err(HfError::DuplicateTensor { path: path(), tensor: name.to_owned() });
        }
        UnsavedError::check_finite(&self.path, name, &tensor.data)?;
        if let Some(value) = tensor.data.iter().find(|x| !dtype.round(**x).is_finite()) {
            let (tensor, dtype) = (name.to_owned(), dtype.name().to_owned());
            return Err(UnsavedError::TooLarge { path: path(), tensor, value: *value, dtype }.into());
        }
        let (at, whole) = (*offset, view.is_whole_block());
        if whole {
            return write(&mut self.file, at, &tensor.data, dtype)
                .map_err(|error| WriteError::at(&self.path)(error).into());
        }
        let numbers = view.block.len();
        let block = self.blocks.entry(at).or_insert_with(|| Block { numbers: vec![0.0; numbers], missing: numbers });
        view.places().zip(&tensor.data).for_each(|(place, number)| block.numbers[place] = *number);
        block.missing -= tensor.data.len();
        if block.missing == 0
            && let Some(block) = self.blocks.remove(&at)
        {
            write(&mut self.file, at, &block.numbers, dtype).map_err(WriteError::at(&self.path))?;
        }
        Ok(())
    }

    pub(super) fn complete(&self) -> Result<(), HfError> {
        match self.waiting.first() {
            None => Ok(()),
            Some(tensor) => Err(HfError::MissingTensor {
                path: self.path.clone(),
                tensor: tensor.clone(),
                num_missing: self.waiting.len(),
            }),
        }
    }

    pub(super) fn finish(self) -> Result<(), HfError> {
        self.complete()?;
        Ok(self.file.commit()?)
    }
}

/// Writes numbers in chunks, so that a large embedding is never encoded at once.
fn write(file: &mut AtomicFile, offset: u64, numbers: &[f32], dtype: StorageDtype) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    numbers.chunks(1 << 20).try_for_each(|block| file.write_all(&dtype.encode(block)))
}
