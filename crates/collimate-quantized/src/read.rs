//! Reading packed weights from the tensors of a checkpoint, found by name.

mod bitsandbytes;
mod fp8;
mod integers;
mod mxfp4;
mod names;
mod piece;

use crate::config::QuantizationConfig;
use crate::dtype::Dtype;
use crate::error::QuantizedError;
use crate::matrix::PackedMatrix;
pub use names::{owner_of_sidecar, sidecar_names};
pub use piece::TensorPiece;
use piece::Tensors;

/// Reads a linear layer's weight, or returns `None` where the checkpoint has it unpacked or not at all.
///
/// `weight` is its name as in the unpacked model, `….weight`. The format is told by the names and types of the tensors that
/// `lookup` finds. `config` says what tensors do not: bits and groups of GPTQ and AWQ, blocks of FP8. `shape` is [rows,
/// columns], if the model's configuration says so.
///
/// Everything is checked before it returns; what is allocated is small against the tensors, whatever they claim to hold.
///
/// # Errors
/// A tensor is missing, of another type or size than the format has, or holds scales that make weights infinite or undefined;
/// or the format is not supported. Errors name the tensor.
pub fn read(
    weight: &str,
    shape: Option<[usize; 2]>,
    config: Option<&QuantizationConfig>,
    lookup: &dyn Fn(&str) -> Option<TensorPiece>,
) -> Result<Option<PackedMatrix>, QuantizedError> {
    let tensors = Tensors { weight, module: weight.strip_suffix(".weight").unwrap_or(weight), lookup };
    let main = lookup(weight);
    let matrix = match &main {
        Some(main) if tensors.names_four_bit().is_some() => bitsandbytes::read_four_bit(&tensors, main)?,
        Some(main) if main.dtype == Dtype::I8 || tensors.find(".SCB").is_some() => {
            bitsandbytes::read_int8(&tensors, main)?
        }
        Some(main) if main.dtype == Dtype::F8E4M3 || tensors.find(".weight_scale_inv").is_some() => {
            fp8::read(&tensors, main, config)?
        }
        Some(main) => {
            tensors.refuse_unknown(main)?;
            return Ok(None);
        }
        None if tensors.find(".qweight").is_some() => integers::read(&tensors, config)?,
        None => {
            tensors.refuse_other_names()?;
            return Ok(None);
        }
    };
    piece::check_matrix_shape(weight, [matrix.rows, matrix.columns], shape)?;
    Ok(Some(matrix))
}

/// Reads the weights of several experts that one tensor holds: `{name}_blocks` and `{name}_scales`, as gpt-oss has them.
/// Returns one matrix, [outputs, inputs], for each expert, or `None` where there are no such tensors.
///
/// # Errors
/// As [`read`].
pub fn read_experts(
    name: &str,
    lookup: &dyn Fn(&str) -> Option<TensorPiece>,
) -> Result<Option<Vec<PackedMatrix>>, QuantizedError> {
    mxfp4::read(name, lookup)
}
