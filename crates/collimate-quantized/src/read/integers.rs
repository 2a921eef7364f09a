//! GPTQ and AWQ.

use super::piece::{Named, Tensors};
use crate::awq::Awq;
use crate::config::{QuantizationConfig, QuantizationMethod};
use crate::dtype::{Dtype, FloatDtype, read_u32};
use crate::error::QuantizedError;
use crate::gptq::{Gptq, ZeroPoints};
use crate::matrix::{PackedMatrix, Packing};

const GPTQ: &str = "GPTQ";
const AWQ: &str = "AWQ";
/// Numbers in a word of AWQ.
const PER_WORD: usize = 8;

pub(super) fn read(tensors: &Tensors<'_>, config: Option<&QuantizationConfig>) -> Result<PackedMatrix, QuantizedError> {
    match config.map(|config| &config.method) {
        Some(&QuantizationMethod::Gptq { bits, group, zero_points }) => read_gptq(tensors, bits, group, zero_points),
        Some(&QuantizationMethod::Awq { group }) => read_awq(tensors, group),
        _ => {
            let message = "packed integers need a quantization_config of gptq or awq in config.json".to_owned();
            Err(QuantizedError::Unsupported { tensor: format!("{}.qweight", tensors.module), message })
        }
    }
}

fn read_gptq(
    tensors: &Tensors<'_>,
    bits: u32,
    group: Option<usize>,
    zero_points: ZeroPoints,
) -> Result<PackedMatrix, QuantizedError> {
    let codes = words(tensors, ".qweight", GPTQ)?;
    let [lines, rows] = codes.sides()?;
    codes.shape(&[lines, rows], 4)?;
    let per_32 = bits as usize;
    if !(lines * 32).is_multiple_of(per_32) || !(rows * per_32).is_multiple_of(32) {
        let expected = format!("whole groups of {bits}-bit codes");
        return Err(codes.shape_error(expected, format!("{:?}", codes.piece.shape)));
    }
    let columns = lines * 32 / per_32;
    let group = group.unwrap_or(columns);
    let num_groups = columns.div_ceil(group);
    let zeros = words(tensors, ".qzeros", GPTQ)?;
    zeros.shape(&[num_groups, rows * per_32 / 32], 4)?;
    let (scales, scale_dtype) = scales(tensors, GPTQ, [num_groups, rows], (1u32 << bits) as f32)?;
    let groups =
        tensors.find(".g_idx").map(|named| group_indices(named, columns, group, num_groups)).transpose()?.flatten();
    let (codes, zeros) = (codes.piece.bytes, zeros.piece.bytes);
    let packed = Gptq { bits, group, codes, zeros, zero_points, scales, scale_dtype, groups };
    Ok(PackedMatrix { rows, columns, packing: Packing::Gptq(packed) })
}

/// The groups of columns, unless they are consecutive.
fn group_indices(
    named: Named,
    columns: usize,
    group: usize,
    num_groups: usize,
) -> Result<Option<bytes::Bytes>, QuantizedError> {
    named.dtype(&[Dtype::I32], "I32")?;
    named.byte_count(4 * columns)?;
    let bytes = &named.piece.bytes;
    if let Some(index) = (0..columns).find(|&column| read_u32(bytes, column) as usize >= num_groups) {
        let value = (read_u32(bytes, index) as i32).to_string();
        return Err(QuantizedError::Value { tensor: named.name, index, value, reason: "there is no such group" });
    }
    let consecutive = (0..columns).all(|column| read_u32(bytes, column) as usize == column / group);
    Ok((!consecutive).then_some(named.piece.bytes))
}

fn read_awq(tensors: &Tensors<'_>, group: Option<usize>) -> Result<PackedMatrix, QuantizedError> {
    let codes = words(tensors, ".qweight", AWQ)?;
    let [columns, words_per_line] = codes.sides()?;
    codes.shape(&[columns, words_per_line], 4)?;
    let rows = words_per_line * PER_WORD;
    let group = group.unwrap_or(columns);
    let num_groups = columns.div_ceil(group);
    let zeros = words(tensors, ".qzeros", AWQ)?;
    zeros.shape(&[num_groups, words_per_line], 4)?;
    let (scales, scale_dtype) = scales(tensors, AWQ, [num_groups, rows], 16.0)?;
    let packed = Awq { group, codes: codes.piece.bytes, zeros: zeros.piece.bytes, scales, scale_dtype };
    Ok(PackedMatrix { rows, columns, packing: Packing::Awq(packed) })
}

fn words(tensors: &Tensors<'_>, suffix: &str, format: &'static str) -> Result<Named, QuantizedError> {
    let named = tensors.need(suffix, format)?;
    named.dtype(&[Dtype::I32], "I32")?;
    Ok(named)
}

fn scales(
    tensors: &Tensors<'_>,
    format: &'static str,
    sides: [usize; 2],
    largest_code: f32,
) -> Result<(bytes::Bytes, FloatDtype), QuantizedError> {
    let named = tensors.need(".scales", format)?;
    let dtype = named.float_dtype()?;
    named.shape(&sides, dtype.size())?;
    named.bounded(dtype, f32::MAX / largest_code)?;
    Ok((named.piece.bytes, dtype))
}
