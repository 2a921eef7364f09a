//! Decides whether to use a device's matrix units: only if they agree with float32.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use burn::tensor::{DType, Tensor, TensorData};
use burn_cubecl::CubeRuntime;
use burn_cubecl::element::BoolElement;
use collimate_kernels::{AttentionShape, Segment};

use super::attention::{Blocks, Products, Saved};
use super::tensors::{Cube, read, write};

/// Rows of the trial pack, more than a tile has.
const ROWS: usize = 150;
/// Largest difference relative to the largest result: weights are rounded to eight significant bits.
const TOLERANCE: f32 = 2e-2;

/// How to multiply for attention of this shape on this device. Tried once per process: kernels for units that we have never
/// run on must agree with the scalar ones before anything is trained with them.
pub(super) fn products<R: CubeRuntime, BT: BoolElement>(
    blocks: &Blocks<R>,
    shape: &AttentionShape,
    dtype: DType,
    device: &R::Device,
) -> Products {
    static AGREED: Mutex<BTreeMap<String, bool>> = Mutex::new(BTreeMap::new());
    if !blocks.has_units(shape, dtype) {
        return Products::Scalar;
    }
    let mut agreed = AGREED.lock().unwrap_or_else(PoisonError::into_inner);
    let key = format!("{device:?} {dtype:?} {shape:?}");
    match *agreed.entry(key).or_insert_with(|| agrees::<R, BT>(shape, dtype, device)) {
        true => Products::Matrix { on_units: true },
        false => Products::Scalar,
    }
}

/// Whether outputs and gradients agree.
fn agrees<R: CubeRuntime, BT: BoolElement>(shape: &AttentionShape, dtype: DType, device: &R::Device) -> bool {
    let half = ROWS / 2;
    let segments = [
        Segment { context: 0..0, rows: 0..half },
        Segment { context: 0..half, rows: half..ROWS - 20 },
        Segment { context: 0..half, rows: ROWS - 20..ROWS },
    ];
    let blocks = Blocks::<R>::new(&segments, shape, device);
    let inputs = |seed: u32, heads: usize| {
        let width = heads * shape.head_dim;
        // Numbers in ±1 without a pattern.
        let values = (0..(ROWS * width) as u32).map(|i| {
            let mixed = (i.wrapping_mul(0x9e37_79b9) ^ seed.wrapping_mul(0x85eb_ca6b)).wrapping_mul(0xc2b2_ae35);
            (mixed >> 8) as f32 / (1 << 23) as f32 - 1.0
        });
        let data = TensorData::new(values.collect::<Vec<f32>>(), [ROWS, width]);
        Tensor::<Cube<R, BT>, 2>::from_data(data, device).cast(dtype)
    };
    let [q, k, v, d_out] = [(1, shape.heads), (2, shape.kv_heads), (3, shape.kv_heads), (4, shape.heads)]
        .map(|(seed, heads)| inputs(seed, heads));
    let results = [Products::Scalar, Products::Matrix { on_units: true }].map(|products| {
        let [q, k, v, d_out] = [&q, &k, &v, &d_out].map(|x| read(x.clone()));
        let (out, lse) = blocks.forward(shape, products, q.clone(), k.clone(), v.clone());
        let [d_q, d_k, d_v] =
            blocks.backward(shape, products, Saved { q, k, v, out: out.clone(), lse: lse.clone() }, d_out);
        [out, lse, d_q, d_k, d_v].map(|x| {
            let x = write::<R, BT, 2>(x).into_data();
            x.iter::<f32>().collect::<Vec<_>>()
        })
    });
    let [scalar, on_units] = results;
    scalar.iter().zip(&on_units).all(|(expected, found)| {
        let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        expected.iter().zip(found).all(|(expected, found)| (expected - found).abs() <= TOLERANCE * largest)
    })
}
