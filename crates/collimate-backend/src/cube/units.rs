//! Whether a device's units for matrices are used: those that give what float32 gives.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use burn::tensor::{DType, Tensor, TensorData};
use burn_cubecl::CubeRuntime;
use burn_cubecl::element::BoolElement;
use collimate_kernels::{AttentionShape, Segment};

use super::attention::{Blocks, Products, Saved};
use super::tensors::{Cube, read, write};

/// Rows of the sequences that are tried, more than a tile has.
const ROWS: usize = 150;
/// How far results may be apart, of the largest: weights are rounded to sixteen bits, eight of them significant.
const TOLERANCE: f32 = 2e-2;

/// How attention of this shape multiplies on this device. Found out once: kernels that a driver compiles for units we have
/// not seen must agree with the plain ones before anything is trained with them.
pub(super) fn products<R: CubeRuntime, BT: BoolElement>(
    blocks: &Blocks<R>,
    shape: &AttentionShape,
    dtype: DType,
    device: &R::Device,
) -> Products {
    static AGREED: Mutex<BTreeMap<String, bool>> = Mutex::new(BTreeMap::new());
    if !blocks.has_units(shape, dtype) {
        return Products::OfNumbers;
    }
    let mut agreed = AGREED.lock().unwrap_or_else(PoisonError::into_inner);
    let tried = format!("{device:?} {dtype:?} {shape:?}");
    match *agreed.entry(tried).or_insert_with(|| agrees::<R, BT>(shape, dtype, device)) {
        true => Products::OfSquares { units: true },
        false => Products::OfNumbers,
    }
}

/// Whether outputs and gradients are the same by numbers and by units.
fn agrees<R: CubeRuntime, BT: BoolElement>(shape: &AttentionShape, dtype: DType, device: &R::Device) -> bool {
    let half = ROWS / 2;
    let segments = [
        Segment { context: 0..0, rows: 0..half },
        Segment { context: 0..half, rows: half..ROWS - 20 },
        Segment { context: 0..half, rows: ROWS - 20..ROWS },
    ];
    let blocks = Blocks::<R>::of(&segments, shape, device);
    let inputs = |seed: u32, heads: usize| {
        let width = heads * shape.head_dim;
        // Numbers from -1 to 1 without a pattern.
        let values = (0..(ROWS * width) as u32).map(|i| {
            let mixed = (i.wrapping_mul(0x9e37_79b9) ^ seed.wrapping_mul(0x85eb_ca6b)).wrapping_mul(0xc2b2_ae35);
            (mixed >> 8) as f32 / (1 << 23) as f32 - 1.0
        });
        let data = TensorData::new(values.collect::<Vec<f32>>(), [ROWS, width]);
        Tensor::<Cube<R, BT>, 2>::from_data(data, device).cast(dtype)
    };
    let [q, k, v, d_out] = [(1, shape.heads), (2, shape.kv_heads), (3, shape.kv_heads), (4, shape.heads)]
        .map(|(seed, heads)| inputs(seed, heads));
    let results = [Products::OfNumbers, Products::OfSquares { units: true }].map(|products| {
        let [q, k, v, d_out] = [&q, &k, &v, &d_out].map(|x| read(x.clone()));
        let (out, lse) = blocks.forward(shape, products, q.clone(), k.clone(), v.clone());
        let [d_q, d_k, d_v] =
            blocks.backward(shape, products, Saved { q, k, v, out: out.clone(), lse: lse.clone() }, d_out);
        [out, lse, d_q, d_k, d_v].map(|x| {
            let x = write::<R, BT, 2>(x).into_data();
            x.iter::<f32>().collect::<Vec<_>>()
        })
    });
    let [by_numbers, by_units] = results;
    by_numbers.iter().zip(&by_units).all(|(expected, found)| {
        let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        expected.iter().zip(found).all(|(expected, found)| (expected - found).abs() <= TOLERANCE * largest)
    })
}
