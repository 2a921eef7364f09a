//! Weights of linear layers that are packed into four or eight bits, in a file or on the way from it.

use std::borrow::Cow;
use std::collections::BTreeSet;

use bytes::Bytes;
use collimate_hf::{HfError, HostTensor};
use collimate_quantized::{
    Dtype as PackedDtype, FloatDtype, Format, PackedMatrix, QuantizedError, ScaleOrder, TensorPiece, Values,
    owner_of_sidecar, read, sidecar_names,
};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

use super::mapped::MappedFile;
use super::{WeightFiles, finite, floats};

/// Numbers that are checked at once.
const CHECKED: usize = 1 << 16;

/// Where a packed weight's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Storage {
    /// In memory.
    #[default]
    Resident,
    /// In the file, of which the system reads what is used.
    Mapped,
}

impl WeightFiles {
    /// Whether a weight is packed, as the names and types of its tensors say.
    pub fn is_packed(&self, name: &str) -> bool {
        let is_code = |dtype| matches!(dtype, Dtype::U8 | Dtype::I8 | Dtype::I32 | Dtype::F8_E4M3 | Dtype::F8_E5M2);
        self.dtype(name).is_some_and(is_code)
            || (name.ends_with(".weight") && sidecar_names(name).iter().any(|sidecar| self.has(sidecar)))
    }

    /// Whether a tensor belongs to a packed weight that is one of the model's.
    pub(super) fn is_sidecar(&self, name: &str, known: &BTreeSet<&str>) -> bool {
        owner_of_sidecar(name).is_some_and(|weight| known.contains(weight.as_str()) && self.is_packed(&weight))
    }

    fn has(&self, name: &str) -> bool {
        self.holders.contains_key(name)
    }

    /// Reads a packed weight; `None` if it is stored as plain numbers. `shape` is [out, in], if it is known.
    ///
    /// # Errors
    /// [`HfError::Quantized`] naming the tensor: one that belongs to the weight is missing or has another type or size,
    /// or a scale is not finite; [`HfError::MissingTensor`] if there is nothing of that name.
    pub fn read_packed(
        &self,
        name: &str,
        shape: Option<[usize; 2]>,
        storage: Storage,
    ) -> Result<Option<PackedMatrix>, HfError> {
        if !self.is_packed(name) {
            return Ok(None);
        }
        let lookup = |tensor: &str| self.piece(tensor, storage);
        let packed = match self.packed_expert(name, storage) {
            Some(packed) => {
                let packed = packed.map_err(|source| self.quantized(source))?;
                self.same_shape(name, [packed.rows(), packed.columns()], shape)?;
                Ok(Some(packed))
            }
            None => read(name, shape, self.quantization.as_ref(), &lookup),
        };
        if storage == Storage::Resident {
            self.release_weight(name);
        }
        // The scales that bitsandbytes uses on a processor where rows are not whole blocks, which those of real models are.
        let packed = packed.map(|packed| packed.map(|packed| packed.with_scale_order(ScaleOrder::FlooredRows)));
        packed.map_err(|source| self.quantized(source))
    }

    /// Checks that every code of a packed weight is a number: those of FP8 need not be. Reads all of them, of that format.
    ///
    /// # Errors
    /// [`HfError::WeightNotFinite`] naming the first that is none.
    pub fn check_codes(&self, name: &str, packed: &PackedMatrix) -> Result<(), HfError> {
        let Some((row, column)) = packed.first_not_finite() else { return Ok(()) };
        Err(HfError::WeightNotFinite {
            path: self.path.clone(),
            tensor: name.to_owned(),
            index: row * packed.columns() + column,
            value: f32::NAN,
        })
    }

    /// The type and the bytes, in the file, of a tensor of plain numbers.
    ///
    /// # Errors
    /// As [`WeightFiles::read`], but for values that are not finite.
    pub fn plain_bytes(&self, name: &str) -> Result<(FloatDtype, Bytes), HfError> {
        let (file, info) = self.info(name)?;
        self.readable(name, info.dtype)?;
        let bytes = match self.numbers(name, file, info) {
            Cow::Owned(ordered) => Bytes::from(ordered),
            Cow::Borrowed(_) => file.shared.slice(file.range(info)),
        };
        Ok((float_dtype(info.dtype), bytes))
    }

    /// Checks that every number of a tensor of plain numbers is finite, of which a part at a time is in memory.
    ///
    /// # Errors
    /// As [`WeightFiles::read`].
    pub fn check_numbers(&self, name: &str) -> Result<(), HfError> {
        let (file, info) = self.info(name)?;
        self.readable(name, info.dtype)?;
        let part = CHECKED * float_dtype(info.dtype).size();
        for (index, bytes) in self.numbers(name, file, info).chunks(part).enumerate() {
            finite(&file.path, name, index * CHECKED, &floats(info.dtype, bytes))?;
        }
        file.release(info.data_offsets.0, info.data_offsets.1);
        Ok(())
    }

    /// Packs a weight [out, in] that is stored as plain numbers, and drops its mapped pages afterwards.
    ///
    /// # Errors
    /// As [`WeightFiles::read`]; [`HfError::Quantized`] for a weight that the format cannot hold.
    pub fn pack(&self, name: &str, format: Format) -> Result<PackedMatrix, HfError> {
        let (file, info) = self.info(name)?;
        self.readable(name, info.dtype)?;
        let &[rows, columns] = info.shape.as_slice() else {
            let message = format!("a weight with the shape {:?} is no matrix", info.shape);
            return Err(self.quantized(QuantizedError::Unsupported { tensor: name.to_owned(), message }));
        };
        let dtype = float_dtype(info.dtype);
        let numbers = self.numbers(name, file, info);
        let packed = PackedMatrix::pack(Values::Bytes(dtype, &numbers), rows, columns, format);
        file.release(info.data_offsets.0, info.data_offsets.1);
        packed.map_err(|source| match source {
            QuantizedError::Number { row, column, value, .. } if !value.is_finite() => HfError::WeightNotFinite {
                path: file.path.clone(),
                tensor: name.to_owned(),
                index: row * columns + column,
                value,
            },
            source => self.quantized(source),
        })
    }

    /// Drops the mapped pages of a weight and of what belongs to it; later reads fault them back in from the file.
    pub fn release_weight(&self, name: &str) {
        self.tensors_of(name).for_each(|(file, info)| file.release(info.data_offsets.0, info.data_offsets.1));
    }

    /// Has the system read a weight and what belongs to it.
    pub fn prefetch_weight(&self, name: &str) {
        self.tensors_of(name).for_each(|(file, info)| file.prefetch(info.data_offsets.0, info.data_offsets.1));
    }

    /// A weight's tensor and those that belong to it, as far as they are there.
    fn tensors_of(&self, name: &str) -> impl Iterator<Item = (&MappedFile, &TensorInfo)> {
        let names = sidecar_names(name).into_iter().chain([name.to_owned()]);
        names.filter_map(|tensor| self.info(&tensor).ok())
    }

    /// The numbers of a packed weight.
    pub(super) fn unpacked(&self, name: &str, packed: &PackedMatrix) -> Result<HostTensor, HfError> {
        let (rows, columns) = (packed.rows(), packed.columns());
        let mut data = vec![0.0; rows * columns];
        packed.unpack_rows(0..rows, &mut data);
        self.release_weight(name);
        finite(&self.path, name, 0, &data)?;
        Ok(HostTensor { shape: vec![rows, columns], data })
    }

    fn piece(&self, name: &str, storage: Storage) -> Option<TensorPiece> {
        let (file, info) = self.info(name).ok()?;
        let bytes = file.shared.slice(file.range(info));
        Some(piece_of(info, bytes, storage))
    }

    fn same_shape(&self, name: &str, found: [usize; 2], expected: Option<[usize; 2]>) -> Result<(), HfError> {
        match expected.filter(|expected| *expected != found) {
            None => Ok(()),
            Some(expected) => Err(HfError::TensorShape {
                path: self.path.clone(),
                tensor: name.to_owned(),
                expected: expected.to_vec(),
                found: found.to_vec(),
            }),
        }
    }

    fn quantized(&self, source: QuantizedError) -> HfError {
        HfError::Quantized { path: self.path.clone(), source }
    }
}

/// A tensor, or a part of it, with these bytes.
pub(super) fn piece_of(info: &TensorInfo, bytes: Bytes, storage: Storage) -> TensorPiece {
    let bytes = match storage {
        Storage::Resident => Bytes::copy_from_slice(&bytes),
        Storage::Mapped => bytes,
    };
    TensorPiece { dtype: PackedDtype::from_safetensors(&format!("{:?}", info.dtype)), shape: info.shape.clone(), bytes }
}

/// One of the types that weights are read in.
fn float_dtype(dtype: Dtype) -> FloatDtype {
    match dtype {
        Dtype::BF16 => FloatDtype::Bf16,
        Dtype::F16 => FloatDtype::F16,
        _ => FloatDtype::F32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StorageDtype, write_safetensors};

    #[test]
    fn a_number_that_is_not_finite_is_found_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        for index in [None, Some(0), Some(CHECKED + 7), Some(2 * CHECKED)] {
            let tensor = HostTensor::zeros([2 * CHECKED + 1]);
            write_safetensors(&path, [("w".to_owned(), tensor)], StorageDtype::BF16).unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            let start = bytes.len() - 2 * (2 * CHECKED + 1);
            if let Some(index) = index {
                bytes[start + 2 * index..][..2].copy_from_slice(&[0x80, 0x7f]);
            }
            std::fs::write(&path, bytes).unwrap();
            let weights = WeightFiles::open(dir.path()).unwrap();
            match (index, weights.check_numbers("w")) {
                (None, Ok(())) => {}
                (Some(index), Err(HfError::WeightNotFinite { index: found, value, .. })) => {
                    assert_eq!((found, value), (index, f32::INFINITY));
                }
                (index, found) => panic!("{index:?}: {found:?}"),
            }
            std::fs::remove_file(&path).unwrap();
        }
    }
}
