//! The gated delta rule and the convolution before it.

use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexDevice, FlexTensor};
use collimate_recurrent as kernels;
use collimate_recurrent::Convolution;

use super::tensors::{Matrix, add_to, filled, matrix, rows_of, with_numbers, wrap};
use crate::attention_map::Segment;
use crate::operands::{DeltaInputs, DeltaShape, Gradient};

pub(super) fn convolution(x: &Matrix, weight: &Matrix, segments: &[Segment]) -> Matrix {
    let (shape, x, weight) = (x.dims(), rows_of(x), rows_of(weight));
    let taps = weight.storage::<f32>().len() / shape[1].max(1);
    filled(x.dtype(), shape, |out| {
        let convolution = Convolution { weight: weight.storage(), taps, segments };
        with_numbers!(x.dtype(), T => kernels::convolution::<T>(&convolution, x.storage(), out.storage_mut()));
    })
}

pub(super) fn convolution_backward(
    x: &Matrix,
    weight: &Matrix,
    segments: &[Segment],
    d_out: &Matrix,
    d_weight: Option<&mut Gradient<Flex>>,
) -> Matrix {
    let (shape, weight_shape) = (x.dims(), weight.dims());
    let [x, weight, d_out] = [x, weight, d_out].map(rows_of);
    let convolution = Convolution { weight: weight.storage(), taps: weight_shape[1] / shape[1].max(1), segments };
    with_numbers!(x.dtype(), T => {
        let backward = |d_weight: Option<&mut [f32]>| {
            kernels::convolution_backward::<T>(&convolution, x.storage(), d_out.storage(), d_weight)
        };
        let mut d_x = Vec::new();
        match d_weight {
            Some(gradient) => add_to(gradient, weight_shape, |d_weight| d_x = backward(Some(d_weight))),
            None => d_x = backward(None),
        }
        wrap(FlexTensor::from_data(TensorData::new(d_x, shape)))
    })
}

pub(super) fn rule(shape: &DeltaShape, segments: &[Segment], inputs: DeltaInputs<'_, Flex>) -> Matrix {
    let [qkv, decay, beta] = [inputs.qkv, inputs.decay, inputs.beta].map(rows_of);
    let rows = inputs.qkv.dims()[0];
    filled(qkv.dtype(), [rows, shape.values_width()], |out| {
        with_numbers!(qkv.dtype(), T => {
            let inputs =
                kernels::DeltaInputs::<T> { qkv: qkv.storage(), decay: decay.storage(), beta: beta.storage() };
            kernels::delta_rule(shape, segments, inputs, out.storage_mut());
        });
    })
}

pub(super) fn rule_backward(
    shape: &DeltaShape,
    segments: &[Segment],
    inputs: DeltaInputs<'_, Flex>,
    d_out: &Matrix,
) -> [Matrix; 3] {
    let (sizes, gates) = (inputs.qkv.dims(), inputs.decay.dims());
    let [qkv, decay, beta, d_out] = [inputs.qkv, inputs.decay, inputs.beta, d_out].map(rows_of);
    with_numbers!(qkv.dtype(), T => {
        let inputs = kernels::DeltaInputs::<T> { qkv: qkv.storage(), decay: decay.storage(), beta: beta.storage() };
        let gradients = kernels::delta_rule_backward(shape, segments, inputs, d_out.storage());
        let d_qkv = wrap(FlexTensor::from_data(TensorData::new(gradients.qkv, sizes)));
        [d_qkv, matrix(gradients.decay, gates), matrix(gradients.beta, gates)]
    })
}

pub(super) fn states(shape: &DeltaShape, segments: &[Segment], inputs: DeltaInputs<'_, Flex>) -> Tensor<Flex, 3> {
    let [qkv, decay, beta] = [inputs.qkv, inputs.decay, inputs.beta].map(rows_of);
    let states = with_numbers!(qkv.dtype(), T => {
        let inputs = kernels::DeltaInputs::<T> { qkv: qkv.storage(), decay: decay.storage(), beta: beta.storage() };
        kernels::delta_states(shape, segments, inputs)
    });
    let heads = states.len() / (shape.key_dim * shape.value_dim).max(1);
    Tensor::from_data(TensorData::new(states, [heads, shape.key_dim, shape.value_dim]), &FlexDevice)
}
