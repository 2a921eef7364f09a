//! The causal convolution, tap by tap.

use burn::tensor::Tensor;
use burn::tensor::activation::silu;
use burn::tensor::backend::Backend;
use collimate_kernels::Segment;

use super::{accumulate, gradients, indices};
use crate::dtype::{in_dtype, in_float32};
use crate::operands::Gradient;

/// `FusedOps::convolution`.
pub fn convolution<B: Backend>(x: Tensor<B, 2>, weight: Tensor<B, 2>, segments: &[Segment]) -> Tensor<B, 2> {
    let ([rows, width], dtype, device) = (x.dims(), x.dtype(), x.device());
    let taps = weight.dims()[1] / width;
    let weight = weight.reshape([width, taps]).transpose();
    // A row of zeros stands for what is before a sequence.
    let padded = Tensor::cat(vec![in_float32(x), Tensor::zeros([1, width], &device)], 0);
    let by_tap = (0..taps).map(|tap| {
        let read = indices(&read_rows(segments, rows, taps - 1 - tap), &device);
        padded.clone().select(0, read) * weight.clone().narrow(0, tap, 1)
    });
    let sum = by_tap.reduce(|sum, more| sum + more);
    in_dtype(silu(sum.unwrap_or_else(|| padded.narrow(0, 0, rows).zeros_like())), dtype)
}

/// `FusedOps::convolution_backward`.
pub fn convolution_backward<B: Backend>(
    x: &Tensor<B, 2>,
    weight: &Tensor<B, 2>,
    segments: &[Segment],
    d_out: &Tensor<B, 2>,
    d_weight: Option<&mut Gradient<B>>,
) -> Tensor<B, 2> {
    let [d_x, d_w] = gradients([x, weight], d_out, |[x, weight]| convolution(x, weight, segments));
    if let Some(gradient) = d_weight {
        accumulate(gradient, d_w);
    }
    d_x
}

/// For each row of the pack the row `lag` positions before it, or `rows` where its sequence is too short.
fn read_rows(segments: &[Segment], rows: usize, lag: usize) -> Vec<u32> {
    let mut read = vec![rows as u32; rows];
    for segment in segments {
        let sequence: Vec<usize> = segment.context.clone().chain(segment.rows.clone()).collect();
        for (position, &row) in sequence.iter().enumerate().skip(segment.context.len().max(lag)) {
            read[row] = sequence[position - lag] as u32;
        }
    }
    read
}
