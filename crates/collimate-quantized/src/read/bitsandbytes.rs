//! bitsandbytes' four and eight bits.

use serde::Deserialize;

use super::piece::{Named, TensorPiece, Tensors, largest};
use crate::dtype::{Dtype, FloatDtype};
use crate::error::QuantizedError;
use crate::four_bit::dynamic_map::dynamic_map;
use crate::four_bit::{BLOCK_SIZES, DoubleScales, FourBit, FourBitKind, ScaleOrder, Scales};
use crate::int8::Int8;
use crate::matrix::{PackedMatrix, Packing};

/// A `quant_state` is below 300 bytes; more is not parsed.
const LARGEST_STATE: usize = 1 << 16;
const FOUR_BIT: &str = "bitsandbytes' four bits";
const EIGHT_BIT: &str = "bitsandbytes' eight bits";

/// What is not a tensor of its own.
#[derive(Deserialize)]
struct QuantState {
    quant_type: String,
    blocksize: usize,
    dtype: String,
    shape: Vec<usize>,
    nested_blocksize: Option<usize>,
    nested_dtype: Option<String>,
    nested_offset: Option<f64>,
}

impl Tensors<'_> {
    /// The first tensor that only weights of four bits have beside them.
    pub(super) fn names_four_bit(&self) -> Option<Named> {
        let state = |kind| self.find_of_weight(state_suffix(kind));
        state(FourBitKind::Nf4).or_else(|| state(FourBitKind::Fp4)).or_else(|| self.find_of_weight(".quant_map"))
    }

    fn state(&self) -> Result<(Named, FourBitKind), QuantizedError> {
        let found = |kind| self.find_of_weight(state_suffix(kind)).map(|named| (named, kind));
        found(FourBitKind::Nf4)
            .or_else(|| found(FourBitKind::Fp4))
            .ok_or_else(|| self.missing(self.weight, state_suffix(FourBitKind::Nf4), FOUR_BIT))
    }
}

fn state_suffix(kind: FourBitKind) -> &'static str {
    match kind {
        FourBitKind::Nf4 => ".quant_state.bitsandbytes__nf4",
        FourBitKind::Fp4 => ".quant_state.bitsandbytes__fp4",
    }
}

pub(super) fn read_four_bit(tensors: &Tensors<'_>, main: &TensorPiece) -> Result<PackedMatrix, QuantizedError> {
    let (named, kind) = tensors.state()?;
    let state = parse(&named, kind)?;
    let wrong = |message: String| QuantizedError::QuantState { tensor: named.name.clone(), message };
    let &[rows, columns] = &state.shape[..] else {
        return Err(wrong(format!("shape {:?}: expected [rows, columns]", state.shape)));
    };
    let count = rows.checked_mul(columns).filter(|&count| count > 0);
    let Some(count) = count else {
        return Err(wrong(format!("shape [{rows}, {columns}] has no numbers, or too many")));
    };
    if !BLOCK_SIZES.contains(&state.blocksize) {
        return Err(wrong(format!("blocksize {}: expected a power of two from 32 to 4096", state.blocksize)));
    }
    let Some(rounded_to) = FloatDtype::from_torch(&state.dtype) else {
        return Err(wrong(format!("dtype {:?}: expected float32, bfloat16 or float16", state.dtype)));
    };
    let weight = Named { name: tensors.weight.to_owned(), piece: main.clone() };
    // `bnb_4bit_quant_storage`: the same bytes under another type.
    weight
        .dtype(&[Dtype::U8, Dtype::I8, Dtype::Bf16, Dtype::F16, Dtype::F32], "U8, or BF16, F16 or F32 for storage")?;
    weight.byte_count(count.div_ceil(2))?;
    let table = tensors.need_of_weight(".quant_map", FOUR_BIT)?.table::<16>()?;
    let blocks = count.div_ceil(state.blocksize);
    let limit = largest_weight(rounded_to) / largest(table).max(1.0);
    let absmax = tensors.need_of_weight(".absmax", FOUR_BIT)?;
    let scales = if absmax.piece.dtype == Dtype::U8 {
        Scales::Double(double_scales(tensors, &named, &state, absmax, blocks, limit)?)
    } else {
        absmax.dtype(&[Dtype::F32], "F32, or U8 with double quantization")?;
        plain_scales(absmax, blocks, limit)?
    };
    let (codes, block, order) = (weight.piece.bytes, state.blocksize, ScaleOrder::Flat);
    Ok(PackedMatrix {
        rows,
        columns,
        packing: Packing::FourBit(FourBit { kind, table, block, codes, scales, rounded_to, order }),
    })
}

fn parse(named: &Named, kind: FourBitKind) -> Result<QuantState, QuantizedError> {
    let wrong = |message: String| QuantizedError::QuantState { tensor: named.name.clone(), message };
    named.dtype(&[Dtype::U8], "U8, the bytes of a JSON text")?;
    let bytes = &named.piece.bytes;
    if bytes.len() > LARGEST_STATE {
        return Err(wrong(format!("{} bytes of JSON: expected at most {LARGEST_STATE}", bytes.len())));
    }
    let state: QuantState =
        serde_json::from_slice(bytes).map_err(|error| wrong(format!("not a quant_state: {error}")))?;
    if state.quant_type != kind.name() {
        return Err(wrong(format!("quant_type {:?}: its name says {:?}", state.quant_type, kind.name())));
    }
    Ok(state)
}

/// How large weights may be, so that rounding does not make them infinite.
fn largest_weight(rounded_to: FloatDtype) -> f32 {
    match rounded_to {
        FloatDtype::F16 => half::f16::MAX.to_f32(),
        FloatDtype::F32 | FloatDtype::Bf16 => f32::MAX / 2.0,
    }
}

fn plain_scales(absmax: Named, blocks: usize, limit: f32) -> Result<Scales, QuantizedError> {
    absmax.byte_count(4 * blocks)?;
    absmax.bounded(FloatDtype::F32, limit)?;
    Ok(Scales::Float32(absmax.piece.bytes))
}

fn double_scales(
    tensors: &Tensors<'_>,
    named: &Named,
    state: &QuantState,
    absmax: Named,
    blocks: usize,
    limit: f32,
) -> Result<DoubleScales, QuantizedError> {
    let wrong = |message: String| QuantizedError::QuantState { tensor: named.name.clone(), message };
    absmax.byte_count(blocks)?;
    let nested = tensors.need_of_weight(".nested_absmax", "double quantization")?;
    let map = tensors.need_of_weight(".nested_quant_map", "double quantization")?.table::<256>()?;
    let Some(nested_block) = state.nested_blocksize.filter(|block| block.is_power_of_two()) else {
        return Err(wrong("nested_blocksize: expected a power of two".to_owned()));
    };
    if let Some(dtype) = state.nested_dtype.as_deref().filter(|&dtype| dtype != "float32") {
        return Err(wrong(format!("nested_dtype {dtype:?}: expected float32")));
    }
    let offset = match state.nested_offset.map(|offset| offset as f32) {
        Some(offset) if offset.abs() < limit => offset,
        Some(offset) => return Err(wrong(format!("nested_offset {offset}: weights would not be finite"))),
        None => return Err(wrong("nested_offset is missing".to_owned())),
    };
    nested.dtype(&[Dtype::F32], "F32")?;
    nested.byte_count(4 * blocks.div_ceil(nested_block))?;
    nested.bounded(FloatDtype::F32, (limit - offset.abs()) / largest(map).max(1.0))?;
    let values = (0..blocks.div_ceil(nested_block)).map(|index| FloatDtype::F32.read(&nested.piece.bytes, index));
    let usual = dynamic_map();
    Ok(DoubleScales {
        codes: absmax.piece.bytes,
        // Nearly every matrix has the same map, and then they share it.
        table: if map == *usual { usual } else { map.into() },
        nested: values.collect(),
        nested_block,
        offset,
    })
}

pub(super) fn read_int8(tensors: &Tensors<'_>, main: &TensorPiece) -> Result<PackedMatrix, QuantizedError> {
    let weight = Named { name: tensors.weight.to_owned(), piece: main.clone() };
    weight.dtype(&[Dtype::I8], "I8 beside .SCB")?;
    let [rows, columns] = weight.sides()?;
    weight.shape(&[rows, columns], 1)?;
    let scales = tensors.need(".SCB", EIGHT_BIT)?;
    scales.dtype(&[Dtype::F32], "F32")?;
    scales.byte_count(4 * rows)?;
    scales.bounded(FloatDtype::F32, f32::MAX / 128.0)?;
    if let Some(format) = tensors.find(".weight_format") {
        // 0 is rows; others are layouts of old GPU kernels.
        if format.piece.bytes.iter().any(|&byte| byte != 0) {
            let message =
                "weights in the layout of a GPU kernel are not supported: expected weight_format 0".to_owned();
            return Err(QuantizedError::Unsupported { tensor: format.name, message });
        }
    }
    let packing = Packing::Int8(Int8 { codes: weight.piece.bytes, scales: scales.piece.bytes });
    Ok(PackedMatrix { rows, columns, packing })
}
