//! A tensor of a file, and checks of it.

use bytes::Bytes;

use crate::dtype::{Dtype, FloatDtype};
use crate::error::QuantizedError;

/// A tensor as a file holds it.
#[derive(Clone, Debug)]
pub struct TensorPiece {
    /// The type of its numbers.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its bytes; a file in memory can be their owner ([`Bytes::from_owner`]).
    pub bytes: Bytes,
}

/// The tensors that belong to one weight.
pub(super) struct Tensors<'a> {
    /// `X.weight`.
    pub(super) weight: &'a str,
    /// `X`.
    pub(super) module: &'a str,
    pub(super) lookup: &'a dyn Fn(&str) -> Option<TensorPiece>,
}

/// A tensor and its name.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) piece: TensorPiece,
}

impl Tensors<'_> {
    /// The tensor with the module's name and a suffix.
    pub(super) fn find(&self, suffix: &str) -> Option<Named> {
        self.named(format!("{}{suffix}", self.module))
    }

    /// The tensor with the weight's name and a suffix.
    pub(super) fn find_of_weight(&self, suffix: &str) -> Option<Named> {
        self.named(format!("{}{suffix}", self.weight))
    }

    fn named(&self, name: String) -> Option<Named> {
        (self.lookup)(&name).map(|piece| Named { name, piece })
    }

    /// The tensor with the module's name and a suffix, which the format needs.
    pub(super) fn need(&self, suffix: &str, format: &'static str) -> Result<Named, QuantizedError> {
        self.find(suffix).ok_or_else(|| self.missing(self.module, suffix, format))
    }

    /// The tensor with the weight's name and a suffix, which the format needs.
    pub(super) fn need_of_weight(&self, suffix: &str, format: &'static str) -> Result<Named, QuantizedError> {
        self.find_of_weight(suffix).ok_or_else(|| self.missing(self.weight, suffix, format))
    }

    pub(super) fn missing(&self, base: &str, suffix: &str, format: &'static str) -> QuantizedError {
        QuantizedError::Missing { tensor: format!("{base}{suffix}"), weight: self.weight.to_owned(), format }
    }

    /// Refuses a weight of integers or of eight-bit floats without what tells its format.
    pub(super) fn refuse_unknown(&self, main: &TensorPiece) -> Result<(), QuantizedError> {
        let message = match main.dtype {
            Dtype::F16 | Dtype::Bf16 | Dtype::F32 => return self.refuse_other_names(),
            Dtype::U8 => {
                "bytes without .quant_state.bitsandbytes__nf4 or __fp4 beside them are in no format that is known"
            }
            Dtype::Other => return Ok(()),
            _ => "a weight of this type without scales beside it is in no format that is known",
        };
        Err(QuantizedError::Unsupported { tensor: self.weight.to_owned(), message: message.to_owned() })
    }

    /// Refuses formats whose tensors are known by name and not read.
    pub(super) fn refuse_other_names(&self) -> Result<(), QuantizedError> {
        const OTHERS: [(&str, &str); 5] = [
            (".weight_packed", "compressed-tensors"),
            (".weight_shape", "compressed-tensors"),
            (".codebooks", "AQLM"),
            (".W_q", "HQQ"),
            (".weight_scale", "FP8 with a scale for each row, or with another name than weight_scale_inv"),
        ];
        let found = OTHERS.iter().find_map(|(suffix, format)| self.find(suffix).map(|tensor| (tensor.name, format)));
        match found {
            None => Ok(()),
            Some((tensor, format)) => {
                let message = format!("{format} is not supported: expected bitsandbytes, fp8, mxfp4, gptq or awq");
                Err(QuantizedError::Unsupported { tensor, message })
            }
        }
    }
}

impl Named {
    pub(super) fn dtype(&self, allowed: &[Dtype], expected: &'static str) -> Result<(), QuantizedError> {
        if allowed.contains(&self.piece.dtype) {
            return Ok(());
        }
        let found = self.piece.dtype.name().to_owned();
        Err(QuantizedError::Dtype { tensor: self.name.clone(), expected, found })
    }

    /// Checks that there are as many bytes as expected.
    pub(super) fn byte_count(&self, expected: usize) -> Result<(), QuantizedError> {
        match self.piece.bytes.len() {
            found if found == expected => Ok(()),
            found => Err(self.shape_error(format!("{expected} bytes"), format!("{found}"))),
        }
    }

    /// Checks the shape and that the bytes are as many as it says.
    pub(super) fn shape(&self, expected: &[usize], size: usize) -> Result<(), QuantizedError> {
        if self.piece.shape != expected {
            return Err(self.shape_error(format!("shape {expected:?}"), format!("{:?}", self.piece.shape)));
        }
        let count = expected.iter().try_fold(size, |count, &side| count.checked_mul(side));
        self.byte_count(count.unwrap_or(usize::MAX))
    }

    /// Two sides of a tensor, both above zero.
    pub(super) fn sides(&self) -> Result<[usize; 2], QuantizedError> {
        match *self.piece.shape {
            [rows, columns] if rows > 0 && columns > 0 => Ok([rows, columns]),
            _ => Err(self.shape_error("two sides above 0".to_owned(), format!("{:?}", self.piece.shape))),
        }
    }

    pub(super) fn shape_error(&self, expected: String, found: String) -> QuantizedError {
        QuantizedError::Shape { tensor: self.name.clone(), expected, found }
    }

    /// The type of floats that it holds.
    pub(super) fn float_dtype(&self) -> Result<FloatDtype, QuantizedError> {
        self.dtype(&[Dtype::F32, Dtype::Bf16, Dtype::F16], "F32, BF16 or F16")?;
        Ok(FloatDtype::of(self.piece.dtype).unwrap_or(FloatDtype::F32))
    }

    /// Checks that no float is larger than a limit, which NaN is.
    pub(super) fn bounded(&self, dtype: FloatDtype, limit: f32) -> Result<(), QuantizedError> {
        let bytes = &self.piece.bytes;
        let fits = |x: f32| x.abs() <= limit;
        match (0..bytes.len() / dtype.size()).find(|&index| !fits(dtype.read(bytes, index))) {
            None => Ok(()),
            Some(index) => Err(self.value_error(index, dtype.read(bytes, index))),
        }
    }

    /// The error for a scale or a table's number.
    pub(super) fn value_error(&self, index: usize, value: f32) -> QuantizedError {
        let reason = if value.is_finite() { "weights would be infinite" } else { "expected a finite number" };
        QuantizedError::Value { tensor: self.name.clone(), index, value: value.to_string(), reason }
    }

    /// A table of finite float32.
    pub(super) fn table<const N: usize>(&self) -> Result<[f32; N], QuantizedError> {
        self.dtype(&[Dtype::F32], "F32")?;
        self.byte_count(4 * N)?;
        self.bounded(FloatDtype::F32, f32::MAX)?;
        Ok(std::array::from_fn(|index| FloatDtype::F32.read(&self.piece.bytes, index)))
    }
}

/// Checks that a matrix has the shape that the model's configuration says.
pub(super) fn check_matrix_shape(
    weight: &str,
    found: [usize; 2],
    expected: Option<[usize; 2]>,
) -> Result<(), QuantizedError> {
    match expected {
        Some(expected) if expected != found => Err(QuantizedError::Shape {
            tensor: weight.to_owned(),
            expected: format!("shape {expected:?}"),
            found: format!("{found:?}"),
        }),
        _ => Ok(()),
    }
}

/// The largest magnitude.
pub(super) fn largest(values: impl IntoIterator<Item = f32>) -> f32 {
    values.into_iter().fold(0.0, |largest, value| largest.max(value.abs()))
}
