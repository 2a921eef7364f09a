//! The AdamW update.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use collimate_kernels::AdamwStep;
use cubecl::prelude::*;

use super::buffers::{array, owned};
use super::cubes::{UNITS, over_numbers};

/// See [`FusedOps::adamw`](crate::FusedOps::adamw). `state` is the parameter and its two moments, in float32, updated in
/// place unless something else holds them.
pub(super) fn adamw<R: CubeRuntime>(
    state: [CubeTensor<R>; 3],
    gradient: CubeTensor<R>,
    step: &AdamwStep,
) -> [CubeTensor<R>; 3] {
    let [parameter, m, v] = state.map(owned);
    let (client, count) = (parameter.client.clone(), parameter.meta.num_elements());
    adamw_kernel::launch::<R>(
        &client,
        over_numbers(count),
        CubeDim::new_1d(UNITS),
        array(parameter.clone()),
        array(gradient),
        array(m.clone()),
        array(v.clone()),
        count as u32,
        step.gradient_scale as f32,
        step.beta1 as f32,
        (1.0 - step.beta1) as f32,
        step.beta2 as f32,
        (1.0 - step.beta2) as f32,
        step.step_size as f32,
        step.correction as f32,
        step.epsilon as f32,
        step.decay as f32,
    );
    [parameter, m, v]
}

#[cube(launch)]
#[expect(clippy::too_many_arguments)] // the formula's numbers
fn adamw_kernel(
    p: &mut Array<f32>,
    g: &Array<f32>,
    m: &mut Array<f32>,
    v: &mut Array<f32>,
    count: u32,
    scale: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    size: f32,
    correction: f32,
    epsilon: f32,
    decay: f32,
) {
    let mut i = ABSOLUTE_POS as u32;
    while i < count {
        let index = i as usize;
        let g = g[index] * scale;
        let new_m = beta1 * m[index] + rest1 * g;
        let new_v = beta2 * v[index] + rest2 * (g * g);
        m[index] = new_m;
        v[index] = new_v;
        p[index] = p[index] * decay - size * (new_m / (new_v.sqrt() / correction + epsilon));
        i += CUBE_COUNT as u32 * UNITS;
    }
}
