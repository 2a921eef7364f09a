//! Every instruction set gives the same bits.

use bytes::Bytes;
use proptest::prelude::*;

use super::{Instructions, Tile};
use crate::awq::Awq;
use crate::dtype::{FloatDtype, Values};
use crate::format::Format;
use crate::four_bit::{FourBitKind, ScaleOrder};
use crate::fp8::Fp8;
use crate::matrix::{PackedMatrix, Packing};
use crate::mxfp4::Mxfp4;

/// Bytes without a pattern.
fn noise(count: usize) -> Bytes {
    (0..count as u32).map(|i| (i.wrapping_add(17).wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn packed(rows: usize, columns: usize, format: Format, dtype: FloatDtype) -> PackedMatrix {
    let numbers = (0..rows * columns).map(|i| ((i * 7919 % 10_007) as f32 - 5003.0) / 1700.0);
    let bytes: Vec<u8> = match dtype {
        FloatDtype::F32 => numbers.flat_map(f32::to_le_bytes).collect(),
        FloatDtype::Bf16 => numbers.flat_map(|x| half::bf16::from_f32(x).to_le_bytes()).collect(),
        FloatDtype::F16 => numbers.flat_map(|x| half::f16::from_f32(x).to_le_bytes()).collect(),
    };
    PackedMatrix::pack(Values::Bytes(dtype, &bytes), rows, columns, format).unwrap()
}

/// A matrix of each format.
fn matrices(rows: usize, columns: usize) -> Vec<PackedMatrix> {
    let count = rows * columns;
    let wide = Format::FourBit { kind: FourBitKind::Nf4, block: 256, double: true };
    let fp4 = Format::FourBit { kind: FourBitKind::Fp4, block: 32, double: false };
    let mut matrices = vec![
        packed(rows, columns, Format::NF4, FloatDtype::F32),
        packed(rows, columns, Format::NF4_DOUBLE, FloatDtype::Bf16),
        packed(rows, columns, fp4, FloatDtype::F16),
        packed(rows, columns, wide, FloatDtype::F32),
        packed(rows, columns, Format::Int8, FloatDtype::F32),
    ];
    let block = Some([3, 20]);
    let scales: Vec<f32> = (0..rows.div_ceil(3) * columns.div_ceil(20)).map(|i| 0.37 + i as f32).collect();
    let fp8 = Packing::Fp8(Fp8 { codes: noise(count), scales: scales.into(), block });
    matrices.push(PackedMatrix { rows, columns, packing: fp8 });
    let whole = Packing::Fp8(Fp8 { codes: noise(count), scales: [-0.37].into(), block: None });
    matrices.push(PackedMatrix { rows, columns, packing: whole });
    let (wide, tall) = (columns.next_multiple_of(32), rows.next_multiple_of(8));
    let exponents = noise(rows * wide / 32).iter().map(|exponent| exponent % 253).collect();
    let mxfp4 = Packing::Mxfp4(Mxfp4 { codes: noise(rows * wide / 2), exponents });
    matrices.push(PackedMatrix { rows, columns: wide, packing: mxfp4 });
    let groups = columns.div_ceil(16);
    let scales = (0..groups * tall).flat_map(|i| (i as f32 * 0.01 - 1.0).to_le_bytes()).collect();
    let (codes, zeros) = (noise(tall * columns / 2), noise(groups * tall / 2));
    let awq = Packing::Awq(Awq { group: 16, codes, zeros, scales, scale_dtype: FloatDtype::F32 });
    matrices.push(PackedMatrix { rows: tall, columns, packing: awq });
    matrices
}

fn unpacked(matrix: &PackedMatrix, instructions: Instructions, tile: [usize; 4]) -> Vec<u32> {
    let [top, left, height, width] = tile;
    let (top, left) = (top % matrix.rows, left % matrix.columns);
    let (bottom, right) = (matrix.rows.min(top + height), matrix.columns.min(left + width));
    let mut out = vec![0.0; (bottom - top) * (right - left)];
    matrix.unpack_with(instructions, Tile { rows: top..bottom, columns: left..right, out: &mut out });
    // Which NaN it is does not matter.
    out.iter().map(|x| if x.is_nan() { u32::MAX } else { x.to_bits() }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_instruction_set_gives_the_same_bits(
        rows in 1usize..20,
        columns in 1usize..300,
        tile in (0usize..20, 0usize..300, 1usize..20, 1usize..300),
        floored in any::<bool>(),
    ) {
        let tile = [tile.0, tile.1, tile.2, tile.3];
        let order = if floored { ScaleOrder::FlooredRows } else { ScaleOrder::Flat };
        for matrix in matrices(rows, columns) {
            let matrix = matrix.with_scale_order(order);
            let plain = unpacked(&matrix, Instructions::Plain, tile);
            prop_assert_eq!(&unpacked(&matrix, Instructions::Widest, tile), &plain, "{}", matrix.format());
            #[cfg(target_arch = "x86_64")]
            prop_assert_eq!(&unpacked(&matrix, Instructions::Avx2, tile), &plain, "{} with AVX2", matrix.format());
        }
    }
}

#[test]
fn sixteen_bits_are_the_rounded_numbers() {
    for matrix in matrices(7, 2100) {
        let (rows, columns) = (1..5, 3..2080);
        let mut wide = vec![0.0; rows.len() * columns.len()];
        matrix.unpack_tile(rows.clone(), columns.clone(), &mut wide);
        let mut narrow = vec![half::bf16::ZERO; wide.len()];
        matrix.unpack_tile_bf16(rows, columns, &mut narrow);
        let rounded: Vec<u16> = wide.iter().map(|&x| half::bf16::from_f32(x).to_bits()).collect();
        assert_eq!(narrow.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), rounded, "{}", matrix.format());
    }
}
