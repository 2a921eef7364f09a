//! The gated delta rule, token by token: what the forms in chunks are compared with.

use std::ops::Range;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use collimate_kernels::Segment;
use collimate_recurrent::DeltaShape;

use super::gradients;
use crate::dtype::{in_dtype, in_float32};
use crate::operands::DeltaInputs;

/// Added to the square of a query's or key's length.
const LENGTH_EPS: f64 = 1e-6;

/// One token of each of M heads, or of many tokens at once.
#[derive(Debug, Clone)]
pub struct DeltaToken<B: Backend> {
    /// Queries of length 1/√key_dim, and keys of length 1, [M, key_dim].
    pub(super) q: Tensor<B, 2>,
    pub(super) k: Tensor<B, 2>,
    /// [M, value_dim].
    pub(super) v: Tensor<B, 2>,
    /// The logarithm of the decay, and β, [M, 1].
    pub(super) decay: Tensor<B, 2>,
    pub(super) beta: Tensor<B, 2>,
}

impl<B: Backend> DeltaToken<B> {
    /// The heads of N tokens, [N · value_heads, _], in float32.
    pub fn all(shape: &DeltaShape, [qkv, decay, beta]: [Tensor<B, 2>; 3]) -> Self {
        let rows = qkv.dims()[0];
        let qkv = in_float32(qkv);
        let shared = shape.value_heads / shape.key_heads;
        let keys = |start: usize| {
            let x = qkv.clone().narrow(1, start, shape.keys_width()).reshape([rows * shape.key_heads, shape.key_dim]);
            let length = (x.clone() * x.clone()).sum_dim(1).add_scalar(LENGTH_EPS).sqrt();
            let unit: Tensor<B, 3> = (x / length).unsqueeze_dim(1);
            unit.repeat_dim(1, shared).reshape([rows * shape.value_heads, shape.key_dim])
        };
        let v = qkv.clone().narrow(1, 2 * shape.keys_width(), shape.values_width());
        Self {
            q: keys(0).div_scalar((shape.key_dim as f64).sqrt()),
            k: keys(shape.keys_width()),
            v: v.reshape([rows * shape.value_heads, shape.value_dim]),
            decay: in_float32(decay).reshape([rows * shape.value_heads, 1]),
            beta: in_float32(beta).reshape([rows * shape.value_heads, 1]),
        }
    }

    fn narrow(&self, heads: Range<usize>) -> Self {
        let of = |x: &Tensor<B, 2>| x.clone().narrow(0, heads.start, heads.len());
        Self { q: of(&self.q), k: of(&self.k), v: of(&self.v), decay: of(&self.decay), beta: of(&self.beta) }
    }

    /// The state, [M, key_dim, value_dim], after the token, and the token's output, [M, value_dim].
    pub fn step(self, state: Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 2>) {
        let [heads, _, value_dim] = state.dims();
        let state = state * self.decay.exp().unsqueeze_dim::<3>(2);
        let key: Tensor<B, 3> = self.k.unsqueeze_dim(2);
        let held = (state.clone() * key.clone()).sum_dim(1).reshape([heads, value_dim]);
        let change: Tensor<B, 3> = ((self.v - held) * self.beta).unsqueeze_dim(1);
        let state = state + key * change;
        let out = (state.clone() * self.q.unsqueeze_dim::<3>(2)).sum_dim(1).reshape([heads, value_dim]);
        (state, out)
    }
}

/// `FusedOps::delta_rule`, token by token.
pub fn delta_rule<B: Backend>(shape: &DeltaShape, segments: &[Segment], inputs: [Tensor<B, 2>; 3]) -> Tensor<B, 2> {
    let (rows, dtype) = (inputs[0].dims()[0], inputs[0].dtype());
    let mut run = Recurrence::new(shape, inputs);
    segments.iter().for_each(|segment| run.advance(segment));
    let out = Tensor::cat(run.outputs.into_iter().flatten().collect(), 0);
    in_dtype(out.reshape([rows, shape.values_width()]), dtype)
}

/// `FusedOps::delta_rule_backward`, token by token.
pub fn delta_rule_backward<B: Backend>(
    shape: &DeltaShape,
    segments: &[Segment],
    inputs: DeltaInputs<'_, B>,
    d_out: &Tensor<B, 2>,
) -> [Tensor<B, 2>; 3] {
    gradients([inputs.qkv, inputs.decay, inputs.beta], d_out, |inputs| delta_rule(shape, segments, inputs))
}

/// `FusedOps::delta_states`, token by token.
pub fn delta_states<B: Backend>(shape: &DeltaShape, segments: &[Segment], inputs: DeltaInputs<'_, B>) -> Tensor<B, 3> {
    let mut run = Recurrence::new(shape, [inputs.qkv, inputs.decay, inputs.beta].map(Clone::clone));
    segments.iter().filter(|segment| segment.context.is_empty()).for_each(|segment| run.advance(segment));
    Tensor::cat(run.ends.into_iter().map(|(_, state)| state).collect(), 0)
}

/// The recurrence over the segments so far.
struct Recurrence<B: Backend> {
    shape: DeltaShape,
    /// Of all rows.
    tokens: DeltaToken<B>,
    /// The state after each segment without a context, and the segment's rows.
    ends: Vec<(Range<usize>, Tensor<B, 3>)>,
    /// By row, [value_heads, value_dim].
    outputs: Vec<Option<Tensor<B, 2>>>,
}

impl<B: Backend> Recurrence<B> {
    fn new(shape: &DeltaShape, inputs: [Tensor<B, 2>; 3]) -> Self {
        let outputs = vec![None; inputs[0].dims()[0]];
        Self { shape: *shape, tokens: DeltaToken::all(shape, inputs), ends: Vec::new(), outputs }
    }

    fn advance(&mut self, segment: &Segment) {
        let DeltaShape { value_heads: heads, key_dim, value_dim, .. } = self.shape;
        let end = self.ends.iter().rev().find(|(rows, _)| !segment.context.is_empty() && *rows == segment.context);
        let mut state = match end {
            Some((_, state)) => state.clone(),
            None => Tensor::zeros([heads, key_dim, value_dim], &self.tokens.q.device()),
        };
        for row in segment.rows.clone() {
            let (next, out) = self.tokens.narrow(row * heads..(row + 1) * heads).step(state);
            (state, self.outputs[row]) = (next, Some(out));
        }
        if segment.context.is_empty() {
            self.ends.push((segment.rows.clone(), state));
        }
    }
}
