//! Elementwise kernels: rotation, gated activation and dropout.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use collimate_kernels::{DropoutRows, GateActivation};
use cubecl::prelude::*;

use super::buffers::{array, empty, numbers, owned};
use super::cubes::{UNITS, over_numbers};
use super::math::{exp, normal_cdf};

/// See [`FusedOps::rotate`](crate::FusedOps::rotate); `cos` and `sin` are [N, rotary_dim / 2].
pub(super) fn rotate<R: CubeRuntime>(
    x: CubeTensor<R>,
    cos: CubeTensor<R>,
    sin: CubeTensor<R>,
    head_dim: usize,
    inverse: bool,
) -> CubeTensor<R> {
    let out = empty(&x, x.meta.shape().clone(), x.dtype);
    let (count, width, half) = (x.meta.num_elements(), x.meta.shape()[1], cos.meta.shape()[1]);
    let (client, dtype) = (x.client.clone(), x.dtype);
    rotate_kernel::launch::<R>(
        &client,
        over_numbers(count),
        CubeDim::new_1d(UNITS),
        array(x),
        array(cos),
        array(sin),
        array(out.clone()),
        count as u32,
        width as u32,
        half as u32,
        head_dim as u32,
        inverse,
        dtype.into(),
    );
    out
}

#[cube(launch)]
#[expect(clippy::too_many_arguments)] // what a kernel reads
fn rotate_kernel<F: Float>(
    x: &Array<F>,
    cos: &Array<f32>,
    sin: &Array<f32>,
    out: &mut Array<F>,
    count: u32,
    width: u32,
    half: u32,
    head_dim: u32,
    #[comptime] inverse: bool,
    #[define(F)] _dtype: StorageType,
) {
    let mut i = ABSOLUTE_POS as u32;
    while i < count {
        let column = i % head_dim;
        let value = f32::cast_from(x[i as usize]);
        if column < 2 * half {
            let first = column < half;
            let angle = i / width * half + select(first, column, column - half);
            let other = f32::cast_from(x[select(first, i + half, i - half) as usize]);
            let signed = select(first, -other, other);
            let turn = if inverse { -sin[angle as usize] } else { sin[angle as usize] };
            out[i as usize] = F::cast_from(value * cos[angle as usize] + signed * turn);
        } else {
            out[i as usize] = x[i as usize];
        }
        i += CUBE_COUNT as u32 * UNITS;
    }
}

/// See [`FusedOps::gated`](crate::FusedOps::gated).
pub(super) fn gated<R: CubeRuntime>(
    activation: GateActivation,
    gate: CubeTensor<R>,
    up: CubeTensor<R>,
) -> CubeTensor<R> {
    let out = empty(&gate, gate.meta.shape().clone(), gate.dtype);
    let (client, dtype, count) = (gate.client.clone(), gate.dtype, gate.meta.num_elements());
    gated_kernel::launch::<R>(
        &client,
        over_numbers(count),
        CubeDim::new_1d(UNITS),
        array(gate),
        array(up),
        array(out.clone()),
        count as u32,
        activation,
        dtype.into(),
    );
    out
}

#[cube(launch)]
fn gated_kernel<F: Float>(
    gate: &Array<F>,
    up: &Array<F>,
    out: &mut Array<F>,
    count: u32,
    #[comptime] activation: GateActivation,
    #[define(F)] _dtype: StorageType,
) {
    let mut i = ABSOLUTE_POS as u32;
    while i < count {
        let (value, _) = activated(f32::cast_from(gate[i as usize]), activation);
        out[i as usize] = F::cast_from(value * f32::cast_from(up[i as usize]));
        i += CUBE_COUNT as u32 * UNITS;
    }
}

/// Gradients of gate and up.
pub(super) fn gated_backward<R: CubeRuntime>(
    activation: GateActivation,
    gate: CubeTensor<R>,
    up: CubeTensor<R>,
    d_out: CubeTensor<R>,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let (client, dtype, count) = (gate.client.clone(), gate.dtype, gate.meta.num_elements());
    let (gate, up) = (owned(gate), owned(up));
    gated_backward_kernel::launch::<R>(
        &client,
        over_numbers(count),
        CubeDim::new_1d(UNITS),
        array(gate.clone()),
        array(up.clone()),
        array(d_out),
        count as u32,
        activation,
        dtype.into(),
    );
    (gate, up)
}

#[cube(launch)]
fn gated_backward_kernel<F: Float>(
    gate: &mut Array<F>,
    up: &mut Array<F>,
    d_out: &Array<F>,
    count: u32,
    #[comptime] activation: GateActivation,
    #[define(F)] _dtype: StorageType,
) {
    let mut i = ABSOLUTE_POS as u32;
    while i < count {
        let index = i as usize;
        let (value, slope) = activated(f32::cast_from(gate[index]), activation);
        let d = f32::cast_from(d_out[index]);
        let d_gate = d * f32::cast_from(up[index]) * slope;
        gate[index] = F::cast_from(d_gate);
        up[index] = F::cast_from(d * value);
        i += CUBE_COUNT as u32 * UNITS;
    }
}

/// The activation and its derivative.
#[cube]
fn activated(x: f32, #[comptime] activation: GateActivation) -> (f32, f32) {
    match activation {
        GateActivation::Silu => {
            let sigmoid = 1.0 / (1.0 + exp(-x));
            (x * sigmoid, sigmoid * (1.0 + x * (1.0 - sigmoid)))
        }
        GateActivation::Gelu => {
            let cdf = normal_cdf(x);
            // 1/√(2π)
            (x * cdf, cdf + x * 0.398_942_3 * exp(-0.5 * x * x))
        }
        GateActivation::GeluTanh => {
            // √(2/π)
            let inner = 0.797_884_6 * (x + 0.044_715 * x * x * x);
            // ½ (1 + tanh t) = σ(2t).
            let half = 1.0 / (1.0 + exp(-2.0 * inner));
            let slope = 2.0 * 0.797_884_6 * (1.0 + 3.0 * 0.044_715 * x * x);
            (x * half, half + x * half * (1.0 - half) * slope)
        }
        GateActivation::Sigmoid => {
            let value = 1.0 / (1.0 + exp(-x));
            (value, value * (1.0 - value))
        }
    }
}

/// Columns of a row in the table of streams: whether it belongs to a stream, its index there, and the low and high half
/// of the stream's key.
const STREAM_COLUMNS: u32 = 4;

/// See [`FusedOps::dropout`](crate::FusedOps::dropout): the draws of [`collimate_kernels::dropout`], made on the device.
pub(super) fn dropout<R: CubeRuntime>(x: CubeTensor<R>, rows: &[DropoutRows], probability: f64) -> CubeTensor<R> {
    let [num_rows, width] = [x.meta.shape()[0], x.meta.shape()[1]];
    let mut streams = vec![[0u32; STREAM_COLUMNS as usize]; num_rows];
    for stream in rows {
        for (i, row) in stream.rows.clone().enumerate() {
            streams[row] = [1, (stream.first + i) as u32, stream.key as u32, (stream.key >> 32) as u32];
        }
    }
    let streams = numbers(&x, streams.as_flattened());
    let x = owned(x);
    let (client, dtype, count) = (x.client.clone(), x.dtype, x.meta.num_elements());
    dropout_kernel::launch::<R>(
        &client,
        over_numbers(count),
        CubeDim::new_1d(UNITS),
        array(x.clone()),
        streams,
        count as u32,
        width as u32,
        (probability * 2f64.powi(32)) as u32,
        (1.0 / (1.0 - probability)) as f32,
        dtype.into(),
    );
    x
}

#[cube(launch)]
fn dropout_kernel<F: Float>(
    x: &mut Array<F>,
    streams: &Array<u32>,
    count: u32,
    width: u32,
    threshold: u32,
    scale: f32,
    #[define(F)] _dtype: StorageType,
) {
    let mut i = ABSOLUTE_POS as u32;
    while i < count {
        let stream = (i / width * STREAM_COLUMNS) as usize;
        if streams[stream] == 1 {
            let index = streams[stream + 1] * width + i % width;
            let drawn = mix(mix(index * 0x9e37_79b9u32 + streams[stream + 2]) ^ streams[stream + 3]);
            let kept = f32::cast_from(x[i as usize]) * scale;
            x[i as usize] = F::cast_from(select(drawn < threshold, 0.0, kept));
        }
        i += CUBE_COUNT as u32 * UNITS;
    }
}

/// The mixing function of [`collimate_kernels::dropout`].
#[cube]
fn mix(x: u32) -> u32 {
    let x = (x ^ (x >> 16)) * 0x7feb_352du32;
    let x = (x ^ (x >> 15)) * 0x846c_a68bu32;
    x ^ (x >> 16)
}
