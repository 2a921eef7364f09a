//! RMSNorm, one cube per row.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::buffers::{array, empty, scalars};
use super::cubes::{over, sum_in_cube, units_for};

/// Cubes of a backward pass with the weight's gradient; each sums its own part.
const PARTS: u32 = 256;

/// See [`FusedOps::rms_norm`](crate::FusedOps::rms_norm).
pub(super) fn rms_norm<R: CubeRuntime>(x: CubeTensor<R>, weight: CubeTensor<R>, eps: f32) -> CubeTensor<R> {
    let out = empty(&x, x.meta.shape().clone(), x.dtype);
    let (n, dtype) = (weight.meta.num_elements() as u32, x.dtype);
    let rows = x.meta.num_elements() as u32 / n;
    let (client, units) = (x.client.clone(), units_for(n));
    forward::launch::<R>(
        &client,
        over(rows),
        CubeDim::new_1d(units),
        array(x),
        array(weight),
        array(out.clone()),
        rows,
        n,
        eps,
        units,
        dtype.into(),
    );
    out
}

/// The gradient of `x`, and if `with_weight` the parts of the weight's gradient, [at most PARTS, n].
pub(super) fn rms_norm_backward<R: CubeRuntime>(
    x: CubeTensor<R>,
    weight: CubeTensor<R>,
    eps: f32,
    d_out: CubeTensor<R>,
    with_weight: bool,
) -> (CubeTensor<R>, Option<CubeTensor<R>>) {
    let d_x = empty(&x, x.meta.shape().clone(), x.dtype);
    let (n, dtype) = (weight.meta.num_elements() as u32, x.dtype);
    let rows = x.meta.num_elements() as u32 / n;
    let parts = if with_weight { rows.clamp(1, PARTS) } else { 0 };
    let d_weight = scalars(&x, [parts.max(1) as usize, n as usize]);
    let (client, units) = (x.client.clone(), units_for(n));
    let cubes = if with_weight { CubeCount::new_1d(parts) } else { over(rows) };
    backward::launch::<R>(
        &client,
        cubes,
        CubeDim::new_1d(units),
        array(x),
        array(weight),
        array(d_out),
        array(d_x.clone()),
        array(d_weight.clone()),
        rows,
        n,
        eps,
        units,
        with_weight,
        dtype.into(),
    );
    (d_x, with_weight.then_some(d_weight))
}

#[cube(launch)]
#[expect(clippy::too_many_arguments)] // what a kernel reads
fn forward<F: Float>(
    x: &Array<F>,
    weight: &Array<f32>,
    out: &mut Array<F>,
    rows: u32,
    n: u32,
    eps: f32,
    #[comptime] units: u32,
    #[define(F)] _dtype: StorageType,
) {
    let mut row = CUBE_POS as u32;
    while row < rows {
        let start = row * n;
        let scale = inverse_rms::<F>(x, start, n, eps, units);
        let mut i = UNIT_POS;
        while i < n {
            let normed = f32::cast_from(x[(start + i) as usize]) * scale;
            out[(start + i) as usize] = F::cast_from(normed * weight[i as usize]);
            i += units;
        }
        row += CUBE_COUNT as u32;
    }
}

/// With x̂ = x·s and g = d·weight: dx = s (g − x̂ · mean(g·x̂)), dweight = d·x̂.
#[cube(launch)]
#[expect(clippy::too_many_arguments)] // what a kernel reads
fn backward<F: Float>(
    x: &Array<F>,
    weight: &Array<f32>,
    d_out: &Array<F>,
    d_x: &mut Array<F>,
    d_weight: &mut Array<f32>,
    rows: u32,
    n: u32,
    eps: f32,
    #[comptime] units: u32,
    #[comptime] with_weight: bool,
    #[define(F)] _dtype: StorageType,
) {
    let part = CUBE_POS as u32 * n;
    if with_weight {
        let mut i = UNIT_POS;
        while i < n {
            d_weight[(part + i) as usize] = 0.0;
            i += units;
        }
    }
    let mut row = CUBE_POS as u32;
    while row < rows {
        let start = row * n;
        let scale = inverse_rms::<F>(x, start, n, eps, units);
        let mut sum = 0.0f32;
        let mut i = UNIT_POS;
        while i < n {
            let index = (start + i) as usize;
            let d = f32::cast_from(d_out[index]);
            let normed = f32::cast_from(x[index]) * scale;
            sum += d * weight[i as usize] * normed;
            // No other unit writes this column of the cube's part.
            if with_weight {
                d_weight[(part + i) as usize] += d * normed;
            }
            i += units;
        }
        let mean = sum_in_cube(sum, units) / n as f32;
        let mut i = UNIT_POS;
        while i < n {
            let index = (start + i) as usize;
            let g = f32::cast_from(d_out[index]) * weight[i as usize];
            let normed = f32::cast_from(x[index]) * scale;
            d_x[index] = F::cast_from(scale * (g - normed * mean));
            i += units;
        }
        row += CUBE_COUNT as u32;
    }
}

#[cube]
fn inverse_rms<F: Float>(x: &Array<F>, start: u32, n: u32, eps: f32, #[comptime] units: u32) -> f32 {
    let mut sum = 0.0f32;
    let mut i = UNIT_POS;
    while i < n {
        let value = f32::cast_from(x[(start + i) as usize]);
        sum += value * value;
        i += units;
    }
    1.0 / (sum_in_cube(sum, units) / n as f32 + eps).sqrt()
}
