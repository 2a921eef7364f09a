//! A safetensors file being written.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use collimate_files::{AtomicFile, WriteError};
use serde_json::{Map, Value, json};

use super::StorageDtype;
use crate::blocks::TensorSpec;
use crate::error::{HfError, UnsavedError};
use crate::weights::HostTensor;

/// A safetensors file being written: first the header, then each tensor at its offset, in any order.
pub(super) struct TensorFile {
    path: PathBuf,
    file: AtomicFile,
    dtype: StorageDtype,
    /// Shape and offset in the file, by name.
    slots: BTreeMap<String, (Vec<usize>, u64)>,
    waiting: BTreeSet<String>,
}

impl TensorFile {
    pub(super) fn create(path: &Path, specs: &[TensorSpec], dtype: StorageDtype) -> Result<Self, HfError> {
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
        let mut slots = BTreeMap::new();
        let mut offset = 0;
        for spec in specs {
            let end = offset + spec.num_elements() * dtype.num_bytes();
            let entry = json!({ "dtype": dtype.header_name(), "shape": spec.shape, "data_offsets": [offset, end] });
            if header.insert(spec.name.clone(), entry).is_some() {
                return Err(HfError::DuplicateTensor { path: path.to_owned(), tensor: spec.name.clone() });
            }
            slots.insert(spec.name.clone(), (spec.shape.clone(), offset as u64));
            offset = end;
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        // The format aligns the data to 8 bytes; trailing spaces are valid JSON.
        header.resize(header.len().next_multiple_of(8), b' ');
        let data_start = 8 + header.len() as u64;
        slots.values_mut().for_each(|(_, offset)| *offset += data_start);
        let waiting = slots.keys().cloned().collect();
        let mut file = AtomicFile::create(path)?;
        let write = |file: &mut AtomicFile| {
            file.write_all(&(header.len() as u64).to_le_bytes())?;
            file.write_all(&header)
        };
        write(&mut file).map_err(WriteError::at(path))?;
        Ok(Self { path: path.to_owned(), file, dtype, slots, waiting })
    }

    pub(super) fn put(&mut self, name: &str, tensor: &HostTensor) -> Result<(), HfError> {
        let path = || self.path.clone();
        let Some((shape, offset)) = self.slots.get(name) else {
            return Err(HfError::UnexpectedTensor { path: path(), tensor: name.to_owned(), num_unexpected: 1 });
        };
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
        if let Some(value) = tensor.data.iter().find(|x| !self.dtype.round(**x).is_finite()) {
            let (tensor, dtype) = (name.to_owned(), self.dtype.name().to_owned());
            return Err(UnsavedError::TooLarge { path: path(), tensor, value: *value, dtype }.into());
        }
        let offset = SeekFrom::Start(*offset);
        // In chunks, so that a large embedding is never encoded at once.
        let mut write = || {
            self.file.seek(offset)?;
            tensor.data.chunks(1 << 20).try_for_each(|block| self.file.write_all(&self.dtype.encode(block)))
        };
        Ok(write().map_err(WriteError::at(&self.path))?)
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
