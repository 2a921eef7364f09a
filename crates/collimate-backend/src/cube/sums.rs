//! Sums of squares.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::buffers::{array, scalars};
use super::cubes::{UNITS, sum_in_cube};

/// Maximum partial sums per tensor; the host adds them up in float64.
const PARTS: usize = 256;

/// Partial sums of squares of `x`, [1, parts]; their number depends only on the size of `x`.
pub(super) fn squares<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    let count = x.meta.num_elements();
    let parts = count.div_ceil(16 * UNITS as usize).clamp(1, PARTS);
    let out = scalars(&x, [1, parts]);
    let (client, dtype) = (x.client.clone(), x.dtype);
    squares_kernel::launch::<R>(
        &client,
        CubeCount::new_1d(parts as u32),
        CubeDim::new_1d(UNITS),
        array(x),
        array(out.clone()),
        count as u32,
        dtype.into(),
    );
    out
}

#[cube(launch)]
fn squares_kernel<F: Float>(x: &Array<F>, out: &mut Array<f32>, count: u32, #[define(F)] _dtype: StorageType) {
    let mut sum = 0.0f32;
    let mut i = ABSOLUTE_POS as u32;
    while i < count {
        let value = f32::cast_from(x[i as usize]);
        sum += value * value;
        i += CUBE_COUNT as u32 * UNITS;
    }
    let sum = sum_in_cube(sum, UNITS);
    if UNIT_POS == 0 {
        out[CUBE_POS] = sum;
    }
}
