//! FP8 by blocks, or with one scale a weight.

use super::piece::{Named, TensorPiece, Tensors};
use crate::config::{QuantizationConfig, QuantizationMethod};
use crate::dtype::Dtype;
use crate::error::QuantizedError;
use crate::fp8::{Fp8, LARGEST};
use crate::matrix::{PackedMatrix, Packing};

/// The rectangles of published checkpoints.
const USUAL_BLOCK: [usize; 2] = [128, 128];

pub(super) fn read(
    tensors: &Tensors<'_>,
    main: &TensorPiece,
    config: Option<&QuantizationConfig>,
) -> Result<PackedMatrix, QuantizedError> {
    let weight = Named { name: tensors.weight.to_owned(), piece: main.clone() };
    weight.dtype(&[Dtype::F8E4M3], "F8_E4M3 beside .weight_scale_inv")?;
    let [rows, columns] = weight.sides()?;
    weight.shape(&[rows, columns], 1)?;
    tensors.refuse_other_names()?;
    let block = match config.map(|config| &config.method) {
        Some(QuantizationMethod::Fp8 { block }) => *block,
        _ => Some(USUAL_BLOCK),
    };
    let scales = tensors.need(".weight_scale_inv", "FP8")?;
    let blocks = block.map(|block| [rows.div_ceil(block[0]), columns.div_ceil(block[1])]);
    // One scale is in a tensor without sides.
    let sides = blocks.as_ref().map_or(&[][..], |blocks| &blocks[..]);
    let values = if scales.piece.dtype == Dtype::F8E8M0 {
        scales.shape(sides, 1)?;
        scales.piece.bytes.iter().map(|&exponent| power(exponent)).collect::<Vec<f32>>()
    } else {
        let dtype = scales.float_dtype()?;
        scales.shape(sides, dtype.size())?;
        (0..sides.iter().product()).map(|index| dtype.read(&scales.piece.bytes, index)).collect()
    };
    // NaN is not within any range.
    if let Some(index) = values.iter().position(|scale| !(0.0..=f32::MAX / LARGEST).contains(&scale.abs())) {
        return Err(scales.value_error(index, values[index]));
    }
    let packing = Packing::Fp8(Fp8 { codes: weight.piece.bytes, scales: values.into(), block });
    Ok(PackedMatrix { rows, columns, packing })
}

/// 2 to the power of an exponent of E8M0; 255 is no number.
fn power(exponent: u8) -> f32 {
    if exponent == u8::MAX { f32::NAN } else { 2f32.powi(i32::from(exponent) - 127) }
}
