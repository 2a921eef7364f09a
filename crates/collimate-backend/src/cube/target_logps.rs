//! Log-probs of target tokens from a chunk of logits, and their gradients, which overwrite the logits.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::buffers::{array, numbers, owned, scalars};
use super::cubes::{UNITS, over};
use super::math::{exp, tanh};

/// Below every logit.
const LOWEST: f32 = -3.0e38;

/// The target's logit, the largest logit and Σ e^(logit − largest) of each row of `logits` [M, V]: [M, 3] in float32.
pub(super) fn reduce<R: CubeRuntime>(logits: CubeTensor<R>, targets: &[u32], softcap: Option<f32>) -> CubeTensor<R> {
    let [rows, vocab_size] = [logits.meta.shape()[0], logits.meta.shape()[1]];
    let (out, targets) = (scalars(&logits, [rows, 3]), numbers(&logits, targets));
    let (client, dtype) = (logits.client.clone(), logits.dtype);
    reduce_kernel::launch::<R>(
        &client,
        over(rows as u32),
        CubeDim::new_1d(UNITS),
        array(logits),
        targets,
        array(out.clone()),
        rows as u32,
        vocab_size as u32,
        softcap.unwrap_or(0.0),
        softcap.is_some(),
        dtype.into(),
    );
    out
}

#[cube(launch)]
#[expect(clippy::too_many_arguments)] // what a kernel reads
fn reduce_kernel<F: Float>(
    logits: &Array<F>,
    targets: &Array<u32>,
    out: &mut Array<f32>,
    rows: u32,
    vocab_size: u32,
    cap: f32,
    #[comptime] capped: bool,
    #[define(F)] _dtype: StorageType,
) {
    let mut row = CUBE_POS as u32;
    while row < rows {
        let start = row * vocab_size;
        let mut highest = LOWEST.runtime();
        let mut total = 0.0f32;
        let mut i = UNIT_POS;
        while i < vocab_size {
            let x = softcapped(f32::cast_from(logits[(start + i) as usize]), cap, capped);
            let e = exp(-(x - highest).abs());
            total = select(x > highest, total * e + 1.0, total + e);
            highest = max(highest, x);
            i += UNITS;
        }
        let (highest, total) = merged(highest, total);
        if UNIT_POS == 0 {
            let target = (start + targets[row as usize]) as usize;
            out[(row * 3) as usize] = softcapped(f32::cast_from(logits[target]), cap, capped);
            out[(row * 3 + 1) as usize] = highest;
            out[(row * 3 + 2) as usize] = total;
        }
        row += CUBE_COUNT as u32;
    }
}

/// The largest logit over all units, and Σ e^(logit − largest).
#[cube]
fn merged(highest: f32, total: f32) -> (f32, f32) {
    let mut largest = SharedMemory::<f32>::new(UNITS as usize);
    let mut totals = SharedMemory::<f32>::new(UNITS as usize);
    largest[UNIT_POS as usize] = highest;
    totals[UNIT_POS as usize] = total;
    sync_cube();
    let mut half = comptime!(UNITS / 2).runtime();
    while half > 0 {
        if UNIT_POS < half {
            let here = UNIT_POS as usize;
            let there = (UNIT_POS + half) as usize;
            let (a, b) = (largest[here], largest[there]);
            let e = exp(-(a - b).abs());
            let (x, y) = (totals[here], totals[there]);
            totals[here] = select(a > b, x + y * e, y + x * e);
            largest[here] = max(a, b);
        }
        sync_cube();
        half /= 2;
    }
    let result = (largest[0], totals[0]);
    // Wait before the shared memory is reused.
    sync_cube();
    result
}

/// Turns `logits` [M, V] into the gradients of `Σ_m coefficients[m] · logp[m]` with respect to them, in place.
///
/// `reduced` is the result of [`reduce`], or [M, 3] with the log-sum-exp in its second column and 1 in its third.
pub(super) fn backward<R: CubeRuntime>(
    logits: CubeTensor<R>,
    targets: &[u32],
    reduced: CubeTensor<R>,
    coefficients: &[f32],
    softcap: Option<f32>,
) -> CubeTensor<R> {
    let [rows, vocab_size] = [logits.meta.shape()[0], logits.meta.shape()[1]];
    let (targets, coefficients) = (numbers(&logits, targets), numbers(&logits, coefficients));
    let logits = owned(logits);
    let (client, dtype) = (logits.client.clone(), logits.dtype);
    backward_kernel::launch::<R>(
        &client,
        over(rows as u32),
        CubeDim::new_1d(UNITS),
        array(logits.clone()),
        targets,
        array(reduced),
        coefficients,
        rows as u32,
        vocab_size as u32,
        softcap.unwrap_or(0.0),
        softcap.is_some(),
        dtype.into(),
    );
    logits
}

#[cube(launch)]
#[expect(clippy::too_many_arguments)] // what a kernel reads
fn backward_kernel<F: Float>(
    logits: &mut Array<F>,
    targets: &Array<u32>,
    reduced: &Array<f32>,
    coefficients: &Array<f32>,
    rows: u32,
    vocab_size: u32,
    cap: f32,
    #[comptime] capped: bool,
    #[define(F)] _dtype: StorageType,
) {
    let mut row = CUBE_POS as u32;
    while row < rows {
        let start = row * vocab_size;
        let target = targets[row as usize];
        let highest = reduced[(row * 3 + 1) as usize];
        let total = reduced[(row * 3 + 2) as usize];
        let c = coefficients[row as usize];
        let mut i = UNIT_POS;
        while i < vocab_size {
            let x = softcapped(f32::cast_from(logits[(start + i) as usize]), cap, capped);
            let hot = select(i == target, 1.0f32, 0.0);
            let d = c * (hot - exp(x - highest) / total);
            let d = if capped { d * (1.0 - (x / cap) * (x / cap)) } else { d };
            logits[(start + i) as usize] = F::cast_from(d);
            i += UNITS;
        }
        row += CUBE_COUNT as u32;
    }
}

#[cube]
fn softcapped(x: f32, cap: f32, #[comptime] capped: bool) -> f32 {
    if capped { cap * tanh(x / cap) } else { x }
}
