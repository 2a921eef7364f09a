//! MXFP4, as gpt-oss has its experts.

use super::piece::{Named, TensorPiece};
use crate::dtype::Dtype;
use crate::error::QuantizedError;
use crate::matrix::{PackedMatrix, Packing};
use crate::mxfp4::{BLOCK, LARGEST_EXPONENT, Mxfp4};

/// `{name}_blocks` is [experts, rows, columns / 32, 16], `{name}_scales` [experts, rows, columns / 32].
pub(super) fn read(
    name: &str,
    lookup: &dyn Fn(&str) -> Option<TensorPiece>,
) -> Result<Option<Vec<PackedMatrix>>, QuantizedError> {
    let find =
        |suffix: &str| lookup(&format!("{name}{suffix}")).map(|piece| Named { name: format!("{name}{suffix}"), piece });
    let missing = |suffix: &str| QuantizedError::Missing {
        tensor: format!("{name}{suffix}"),
        weight: name.to_owned(),
        format: "MXFP4",
    };
    let (blocks, scales) = match (find("_blocks"), find("_scales")) {
        (None, None) => return Ok(None),
        (Some(blocks), Some(scales)) => (blocks, scales),
        (None, Some(_)) => return Err(missing("_blocks")),
        (Some(_), None) => return Err(missing("_scales")),
    };
    blocks.dtype(&[Dtype::U8], "U8")?;
    scales.dtype(&[Dtype::U8, Dtype::F8E8M0], "U8")?;
    let shape = &blocks.piece.shape;
    let &[experts, rows, columns, 16] = &shape[..] else {
        return Err(blocks.shape_error("shape [experts, rows, columns / 32, 16]".to_owned(), format!("{shape:?}")));
    };
    if experts == 0 || rows == 0 || columns == 0 {
        return Err(blocks.shape_error("sides above 0".to_owned(), format!("{shape:?}")));
    }
    blocks.shape(&[experts, rows, columns, 16], 1)?;
    scales.shape(&[experts, rows, columns], 1)?;
    if let Some(index) = scales.piece.bytes.iter().position(|&exponent| exponent > LARGEST_EXPONENT) {
        let exponent = scales.piece.bytes[index];
        return Err(QuantizedError::Value {
            tensor: scales.name,
            index,
            value: format!("2^({exponent} - 127)"),
            reason: "weights would not be finite",
        });
    }
    let of_expert = |expert: usize| {
        let part = |bytes: &bytes::Bytes, size: usize| bytes.slice(expert * size..(expert + 1) * size);
        let codes = part(&blocks.piece.bytes, rows * columns * 16);
        let exponents = part(&scales.piece.bytes, rows * columns);
        PackedMatrix { rows, columns: columns * BLOCK, packing: Packing::Mxfp4(Mxfp4 { codes, exponents }) }
    };
    Ok(Some((0..experts).map(of_expert).collect()))
}
