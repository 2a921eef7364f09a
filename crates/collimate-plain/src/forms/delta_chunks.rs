//! The gated delta rule in chunks, by batched products: for backends without kernels.
//!
//! With G the sums of g from a chunk's start, D the decays `e^(G_i − G_j)` from token j to token i, and S the state at its start:
//! what token i adds to the state is `k_i ⊗ u_i`, where `(I + L) U = β (V − e^G K S)` and `L = β D (K Kᵀ)` below the diagonal.
//! All chunks are solved for V and for K at once; only S goes from chunk to chunk.

use std::ops::Range;

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use collimate_kernels::Segment;
use collimate_recurrent::DeltaShape;

use super::delta::DeltaToken;
use super::{gradients, indices};
use crate::dtype::in_dtype;
use crate::operands::DeltaInputs;

/// Tokens of a chunk, a power of two.
const CHUNK: usize = 64;

/// `FusedOps::delta_rule`.
pub fn chunked_delta_rule<B: Backend>(
    shape: &DeltaShape,
    segments: &[Segment],
    inputs: [Tensor<B, 2>; 3],
) -> Tensor<B, 2> {
    let (rows, dtype) = (inputs[0].dims()[0], inputs[0].dtype());
    let chunks = Chunks::new(shape, segments, inputs);
    let count = chunks.rows.len();
    let mut places = vec![0; rows];
    for (chunk, chunk_rows) in chunks.rows.iter().enumerate() {
        chunk_rows.clone().enumerate().for_each(|(place, row)| places[row] = (chunk * CHUNK + place) as u32);
    }
    let (outputs, _) = chunks.run(segments);
    let out = Tensor::cat(outputs, 0).reshape([count, shape.value_heads, CHUNK, shape.value_dim]);
    let out = out.swap_dims(1, 2).reshape([count * CHUNK, shape.values_width()]);
    let places = indices(&places, &out.device());
    in_dtype(out.select(0, places), dtype)
}

/// `FusedOps::delta_rule_backward`.
pub fn chunked_delta_rule_backward<B: Backend>(
    shape: &DeltaShape,
    segments: &[Segment],
    inputs: DeltaInputs<'_, B>,
    d_out: &Tensor<B, 2>,
) -> [Tensor<B, 2>; 3] {
    gradients([inputs.qkv, inputs.decay, inputs.beta], d_out, |inputs| chunked_delta_rule(shape, segments, inputs))
}

/// `FusedOps::delta_states`.
pub fn chunked_delta_states<B: Backend>(
    shape: &DeltaShape,
    segments: &[Segment],
    inputs: DeltaInputs<'_, B>,
) -> Tensor<B, 3> {
    let inputs = [inputs.qkv, inputs.decay, inputs.beta].map(Clone::clone);
    let (_, ends) = Chunks::new(shape, segments, inputs).run(segments);
    Tensor::cat(ends.into_iter().map(|(_, state)| state).collect(), 0)
}

/// All chunks of a pack; tensors begin with chunks · heads.
struct Chunks<B: Backend> {
    shape: DeltaShape,
    /// The rows of each chunk, in the order of segments.
    rows: Vec<Range<usize>>,
    /// (I + L)⁻¹ β V, [_, C, value_dim], and (I + L)⁻¹ β e^G K, [_, C, key_dim].
    solved_v: Tensor<B, 3>,
    solved_k: Tensor<B, 3>,
    /// e^G Q, [_, C, key_dim], and D Q Kᵀ, [_, C, C].
    early_q: Tensor<B, 3>,
    weights: Tensor<B, 3>,
    /// (e^(G_C − G) K)ᵀ, [_, key_dim, C], and e^(G_C), [_, 1, 1].
    late_k: Tensor<B, 3>,
    whole: Tensor<B, 3>,
}

impl<B: Backend> Chunks<B> {
    fn new(shape: &DeltaShape, segments: &[Segment], inputs: [Tensor<B, 2>; 3]) -> Self {
        let (num_rows, device) = (inputs[0].dims()[0], inputs[0].device());
        let rows: Vec<Range<usize>> = segments.iter().flat_map(|segment| chunks(segment.rows.clone())).collect();
        // Tokens that fill up a chunk are zeros, which change nothing.
        let padded = rows.iter().flat_map(|rows| (0..CHUNK).map(|i| rows.clone().nth(i).unwrap_or(num_rows) as u32));
        let padded = indices(&padded.collect::<Vec<_>>(), &device);
        let tokens = DeltaToken::all(shape, inputs);
        let by_chunk = |x: Tensor<B, 2>| {
            let (heads, dim) = (shape.value_heads, x.dims()[1]);
            let x = Tensor::cat(vec![x, Tensor::zeros([heads, dim], &device)], 0);
            let x = x.reshape([num_rows + 1, heads * dim]).select(0, padded.clone());
            x.reshape([rows.len(), CHUNK, heads, dim]).swap_dims(1, 2).reshape([rows.len() * heads, CHUNK, dim])
        };
        let [q, k, v, decay, beta] = [tokens.q, tokens.k, tokens.v, tokens.decay, tokens.beta].map(by_chunk);
        let up_to = |is_in: fn(usize, usize) -> bool| matrix(is_in, &device);
        let (lower, below) = (up_to(|i, j| j <= i), up_to(|i, j| j < i));
        let lower_of_all = lower.clone().expand([decay.dims()[0], CHUNK, CHUNK]);
        let sums = lower_of_all.clone().matmul(decay.clone());
        // Sums of the tokens in between, not differences of the sums from the start, which would lose digits.
        let decays = lower_of_all.matmul(decay * below.clone()).exp() * lower;
        let early = sums.clone().exp();
        let likeness = k.clone().matmul(k.clone().swap_dims(1, 2));
        let inverse = inverse(beta.clone() * decays.clone() * likeness * below);
        Self {
            shape: *shape,
            solved_v: inverse.clone().matmul(beta.clone() * v),
            solved_k: inverse.matmul(beta * early.clone() * k.clone()),
            late_k: (decays.clone().narrow(1, CHUNK - 1, 1).swap_dims(1, 2) * k.clone()).swap_dims(1, 2),
            weights: decays * q.clone().matmul(k.clone().swap_dims(1, 2)),
            early_q: early * q,
            whole: sums.narrow(1, CHUNK - 1, 1).exp(),
            rows,
        }
    }

    /// The outputs of each chunk, [heads, C, value_dim], and the state after each segment without a context, with its rows.
    fn run(&self, segments: &[Segment]) -> (Vec<Tensor<B, 3>>, Vec<End<B>>) {
        let DeltaShape { value_heads: heads, key_dim, value_dim, .. } = self.shape;
        let (mut outputs, mut ends): (Vec<Tensor<B, 3>>, Vec<End<B>>) = (Vec::new(), Vec::new());
        for segment in segments {
            let end = ends.iter().rev().find(|(rows, _)| !segment.context.is_empty() && *rows == segment.context);
            let mut state = match end {
                Some((_, state)) => state.clone(),
                None => Tensor::zeros([heads, key_dim, value_dim], &self.whole.device()),
            };
            for _ in chunks(segment.rows.clone()) {
                let of = |x: &Tensor<B, 3>| x.clone().narrow(0, outputs.len() * heads, heads);
                let added = of(&self.solved_v) - of(&self.solved_k).matmul(state.clone());
                let out = of(&self.early_q).matmul(state.clone()) + of(&self.weights).matmul(added.clone());
                state = state * of(&self.whole) + of(&self.late_k).matmul(added);
                outputs.push(out);
            }
            if segment.context.is_empty() {
                ends.push((segment.rows.clone(), state));
            }
        }
        (outputs, ends)
    }
}

/// Rows of a segment, and the state after it, [heads, key_dim, value_dim].
type End<B> = (Range<usize>, Tensor<B, 3>);

fn chunks(rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    rows.clone().step_by(CHUNK).map(move |start| start..(start + CHUNK).min(rows.end))
}

/// A matrix of ones and zeros, [1, C, C].
fn matrix<B: Backend>(is_one: impl Fn(usize, usize) -> bool, device: &B::Device) -> Tensor<B, 3> {
    let at = |index: usize| if is_one(index / CHUNK, index % CHUNK) { 1.0 } else { 0.0 };
    let ones: Vec<f32> = (0..CHUNK * CHUNK).map(at).collect();
    Tensor::from_data(TensorData::new(ones, [1, CHUNK, CHUNK]), device)
}

/// (I + L)⁻¹ of a matrix L that is zero from the diagonal up, [_, C, C].
///
/// The inverse of [[A, 0], [M, B]] is X − X [[0, 0], [M, 0]] X with X the inverses of A and B, so blocks double in size. A
/// series in powers of L would lose all digits where keys are alike.
fn inverse<B: Backend>(lower: Tensor<B, 3>) -> Tensor<B, 3> {
    let device = lower.device();
    let mut inverse = matrix(|i, j| i == j, &device).expand(lower.dims());
    let mut size = 1;
    while size < CHUNK {
        let is_between = |i: usize, j: usize| i / size == j / size + 1 && (i / size) % 2 == 1;
        let between = lower.clone() * matrix(is_between, &device);
        inverse = inverse.clone() - inverse.clone().matmul(between).matmul(inverse);
        size *= 2;
    }
    inverse
}
