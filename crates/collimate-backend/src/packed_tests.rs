//! What packed weights are unpacked to and multiplied to, for the tests of every backend that keeps them on its device.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::{DType, Distribution, Tensor, TensorData, bf16, f16};
use burn_flex::{Flex, FlexDevice};
use collimate_quantized::{Dtype, FloatDtype, Format, FourBitKind, PackedMatrix, ScaleOrder, TensorPiece, Values};

use crate::{Factor, FilePages, FusedOps, HostPacked, PackedTensor, plain};

/// Numbers without a pattern in ±1, the first rows of which are far smaller; a row of zeros, and outliers.
fn numbers(rows: usize, columns: usize) -> Vec<f32> {
    let numbers = (0..rows * columns).map(|i| {
        let mixed = (i as u32 + 1).wrapping_mul(0x9e37_79b9);
        let mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0xc2b2_ae35);
        let number = (mixed >> 8) as f32 / (1 << 23) as f32 - 1.0;
        match i / columns {
            0 => number * 3e-6,
            1 => number * 1e-3,
            2 => 0.0,
            row if row % 5 == 4 && i % columns == 7 => number * 40.0,
            _ => number,
        }
    });
    numbers.collect()
}

pub(crate) fn packed(rows: usize, columns: usize, stored: FloatDtype, format: Format) -> PackedMatrix {
    let numbers = numbers(rows, columns);
    let bytes: Vec<u8> = match stored {
        FloatDtype::F32 => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
        FloatDtype::Bf16 => numbers.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
        FloatDtype::F16 => numbers.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
    };
    PackedMatrix::pack(Values::Bytes(stored, &bytes), rows, columns, format).expect("numbers that can be packed")
}

pub(crate) fn on_host(matrix: &PackedMatrix) -> Vec<f32> {
    let mut numbers = vec![0.0; matrix.rows() * matrix.columns()];
    matrix.unpack_rows(0..matrix.rows(), &mut numbers);
    assert!(numbers.iter().any(|&x| x != 0.0), "numbers of zero show nothing");
    numbers
}

pub(crate) fn random(rows: usize, columns: usize) -> Tensor<Flex, 2> {
    Tensor::random([rows, columns], Distribution::Uniform(-1.0, 1.0), &FlexDevice)
}

fn there<B: FusedOps>(x: &Tensor<Flex, 2>, device: &B::Device) -> Tensor<B, 2> {
    Tensor::from_data(x.to_data(), device)
}

fn assert_close<B: FusedOps>(found: Tensor<B, 2>, expected: &Tensor<Flex, 2>, relative: f32) {
    let found = Tensor::<Flex, 2>::from_data(found.into_data(), &FlexDevice);
    assert_eq!(found.dims(), expected.dims());
    let size: f32 = expected.clone().abs().max().into_scalar();
    let difference: f32 = (found - expected.clone()).abs().max().into_scalar();
    assert!(size > 1e-3 && difference <= relative * size, "{difference} of {size}");
}

fn assert_same_bits<B: FusedOps>(weight: &B::Packed, expected: &[f32], device: &B::Device) {
    let found: Vec<f32> = weight.unpack(device).into_data().iter().collect();
    assert_eq!(found.len(), expected.len());
    let differs = found.iter().zip(expected).position(|(found, expected)| found.to_bits() != expected.to_bits());
    assert_eq!(differs.map(|i| (i, found[i], expected[i])), None);
}

/// Odd sizes, rows that are not whole blocks and those that are, and more scales than share one.
pub(crate) fn four_bits<B: FusedOps>(kind: FourBitKind, double: bool, stored: FloatDtype, device: &B::Device) {
    for (rows, columns, block) in [(3, 51, 64), (7, 33, 32), (6, 96, 64), (9, 48, 128), (5, 256, 64), (190, 112, 64)] {
        let flat = packed(rows, columns, stored, Format::FourBit { kind, block, double });
        let floored = flat.clone().with_scale_order(ScaleOrder::FlooredRows);
        let orders = [flat, floored].map(|matrix| (on_host(&matrix), matrix));
        assert_eq!(orders[0].0 == orders[1].0, columns % 16 != 0 || columns % block == 0, "both orders are tested");
        for (expected, matrix) in orders {
            assert_same_bits::<B>(&B::Packed::new(HostPacked::resident(matrix), device), &expected, device);
        }
    }
}

pub(crate) fn eight_bits<B: FusedOps>(device: &B::Device) {
    for (rows, columns) in [(4, 51), (7, 33), (300, 257), (5, 1024)] {
        let matrix = packed(rows, columns, FloatDtype::F32, Format::Int8);
        let expected = on_host(&matrix);
        assert_same_bits::<B>(&B::Packed::new(HostPacked::resident(matrix), device), &expected, device);
    }
}

/// Products are those with the unpacked weight, to the bit, and those of the plain form on flex.
pub(crate) fn products<B: FusedOps>(format: Format, backward: bool, device: &B::Device) {
    let matrix = packed(48, 96, FloatDtype::Bf16, format).with_scale_order(ScaleOrder::FlooredRows);
    let dense = Tensor::<B, 2>::from_data(TensorData::new(on_host(&matrix), [48, 96]), device);
    let weight = HostPacked::resident(matrix);
    let on_device = B::Packed::new(weight.clone(), device);
    let [inner, outer] = if backward { [48, 96] } else { [96, 48] };
    let (x, onto) = (random(20, inner), random(20, outer));
    for (onto, alpha) in [(None, 1.0), (Some(onto), 0.5)] {
        let there_onto = || onto.as_ref().map(|onto| there::<B>(onto, device));
        let on_x = there::<B>(&x, device);
        let found = B::multiply_packed(there_onto(), alpha, &on_x, &on_device, backward);
        let factor = if backward { Factor::new(&dense) } else { Factor::transpose_of(&dense) };
        let by_dense = B::multiply(there_onto(), alpha, Factor::new(&on_x), factor);
        assert_eq!(found.to_data(), by_dense.to_data());
        assert_close(found, &plain::multiply_packed::<Flex, _>(onto.clone(), alpha, &x, &weight, backward), 1e-5);
    }
}

/// Rounded to `dtype` once, to the bit, where its numbers are made from float32 by bfloat16's rule or float16's.
pub(crate) fn sixteen_bits<B: FusedOps>(format: Format, dtype: DType, device: &B::Device) {
    let matrix = packed(7, 96, FloatDtype::F32, format);
    let round = |x: f32| if dtype == DType::BF16 { bf16::from_f32(x).to_f32() } else { f16::from_f32(x).to_f32() };
    let expected: Vec<f32> = on_host(&matrix).into_iter().map(round).collect();
    let weight = B::Packed::new(HostPacked::resident(matrix), device);
    let found = weight.unpack_in(dtype, device);
    assert_eq!(found.dtype(), dtype);
    let found: Vec<f32> = found.cast(DType::F32).into_data().iter().collect();
    assert_eq!(found, expected);
    let x = there::<B>(&random(5, 96), device).cast(dtype);
    assert_eq!(B::multiply_packed(None, 1.0, &x, &weight, false).dtype(), dtype, "that of the other factor");
}

/// Counts how often pages are asked for and dropped.
#[derive(Debug, Default)]
struct Pages {
    prefetched: AtomicUsize,
    released: AtomicUsize,
}

impl FilePages for Pages {
    fn prefetch(&self) {
        self.prefetched.fetch_add(1, Ordering::Relaxed);
    }

    fn release(&self) {
        self.released.fetch_add(1, Ordering::Relaxed);
    }
}

/// Weights in files are read for each product, and their pages dropped.
pub(crate) fn in_files<B: FusedOps>(device: &B::Device) {
    for format in [Format::NF4_DOUBLE, Format::Int8] {
        let matrix = packed(7, 33, FloatDtype::F32, format);
        let expected = on_host(&matrix);
        let pages = Arc::new(Pages::default());
        let weight = HostPacked::mapped(matrix, Arc::clone(&pages) as Arc<dyn FilePages>);
        let weight = B::Packed::new(weight, device);
        weight.prefetch();
        for reads in 1..3 {
            assert_same_bits::<B>(&weight, &expected, device);
            assert_eq!(pages.released.load(Ordering::Relaxed), reads);
        }
        assert_eq!(pages.prefetched.load(Ordering::Relaxed), 1);
    }
}

/// A format that is unpacked on the host.
pub(crate) fn without_a_kernel<B: FusedOps>(device: &B::Device) {
    let piece = |dtype, shape: [usize; 2], bytes: Vec<u8>| {
        Some(TensorPiece { dtype, shape: shape.to_vec(), bytes: bytes.into() })
    };
    let lookup = |name: &str| match name {
        "a.weight" => piece(Dtype::F8E4M3, [3, 5], (50..65).collect()),
        "a.weight_scale_inv" => piece(Dtype::F32, [1, 1], 0.3f32.to_le_bytes().to_vec()),
        _ => None,
    };
    let matrix = collimate_quantized::read("a.weight", Some([3, 5]), None, &lookup).expect("FP8").expect("packed");
    assert!(!B::Packed::stays_packed(matrix.format()));
    let expected = on_host(&matrix);
    let weight = HostPacked::resident(matrix);
    let on_device = B::Packed::new(weight.clone(), device);
    assert_same_bits::<B>(&on_device, &expected, device);
    let x = random(4, 5);
    let found = B::multiply_packed(None, 1.0, &there::<B>(&x, device), &on_device, false);
    assert_close(found, &plain::multiply_packed::<Flex, _>(None, 1.0, &x, &weight, false), 1e-5);
}
