//! The gated delta rule: a memory of values by keys that each token lets decay, corrects and reads (arXiv 2412.06464).
//!
//! A head's state S, [key_dim, value_dim], goes from token to token: `S ← e^g S`, then `S ← S + k ⊗ β (v − Sᵀ k)`, and the
//! token's output is `Sᵀ q / √key_dim`. Queries and keys have length 1. Here it is computed in chunks of [`CHUNK`] tokens by
//! matrix products; `collimate-plain` has the form above.
//!
//! A prompt's final state goes to each of its responses, and their gradients in it are summed, so that the prompt is computed
//! once. Chunks begin at a segment's first row, and so a row's bits do not depend on other segments.

mod backward;
mod chunk;
mod gradient;
mod rows;

use rayon::prelude::*;

pub use self::backward::{DeltaGradients, delta_rule_backward};
use self::chunk::Chunk;
use self::rows::{Head, chunks, trees};
use collimate_kernels::{Element, Segment};

/// Tokens that are computed together.
pub(crate) const CHUNK: usize = 64;

/// Added to the square of a query's or key's length.
pub(crate) const LENGTH_EPS: f32 = 1e-6;

/// Sizes of a gated delta rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaShape {
    /// Heads of queries and keys; divides `value_heads`. Consecutive value heads share one.
    pub key_heads: usize,
    /// Heads of values, each with a state.
    pub value_heads: usize,
    /// Width of a query or key.
    pub key_dim: usize,
    /// Width of a value.
    pub value_dim: usize,
}

impl DeltaShape {
    /// Width of the queries of all heads, which is that of the keys.
    pub fn keys_width(&self) -> usize {
        self.key_heads * self.key_dim
    }

    /// Width of the values of all heads, which is that of the output.
    pub fn values_width(&self) -> usize {
        self.value_heads * self.value_dim
    }

    /// Width of queries, keys and values together.
    pub fn width(&self) -> usize {
        2 * self.keys_width() + self.values_width()
    }

    /// Numbers in the states of all heads.
    pub fn state_len(&self) -> usize {
        self.values_width() * self.key_dim
    }
}

/// What the gated delta rule reads.
#[derive(Debug, Clone, Copy)]
pub struct DeltaInputs<'a, T = f32> {
    /// Queries, keys and values side by side, [N, width]; queries and keys of any length.
    pub qkv: &'a [T],
    /// The logarithm g of each head's decay, at most 0, [N, value_heads].
    pub decay: &'a [f32],
    /// How far a value is corrected, β, [N, value_heads].
    pub beta: &'a [f32],
}

/// The output of every row, [N, value_heads · value_dim].
///
/// Every row is in exactly one segment's `rows`, and a `context` is empty or the rows of a segment without one.
pub fn delta_rule<T: Element>(shape: &DeltaShape, segments: &[Segment], inputs: DeltaInputs<'_, T>, out: &mut [T]) {
    let trees = trees(segments);
    let heads = Head::all(shape, inputs, &trees);
    let outputs: Vec<Vec<f32>> = heads
        .par_iter()
        .map_init(Chunk::default, |chunk, head| {
            let mut out = vec![0.0; head.tree.num_rows() * shape.value_dim];
            let (mut state, mut done) = (head.empty_state(), 0);
            let mut run = |segment: &Segment, state: &mut [f32]| {
                for rows in chunks(segment) {
                    chunk.load(head, rows.clone());
                    let len = rows.len() * shape.value_dim;
                    chunk.forward(state, Some(&mut out[done..done + len]));
                    done += len;
                }
            };
            run(head.tree.first, &mut state);
            for response in &head.tree.forks {
                run(response, &mut state.clone());
            }
            out
        })
        .collect();
    rows::scatter(shape, &trees, &outputs, out);
}

/// The state after each segment without a context, by segment and head, [key_dim, value_dim] each.
pub fn delta_states<T: Element>(shape: &DeltaShape, segments: &[Segment], inputs: DeltaInputs<'_, T>) -> Vec<f32> {
    let trees = trees(segments);
    let states = Head::all(shape, inputs, &trees).into_par_iter().map_init(Chunk::default, |chunk, head| {
        let mut state = head.empty_state();
        for rows in chunks(head.tree.first) {
            chunk.load(&head, rows);
            chunk.forward(&mut state, None);
        }
        state
    });
    states.collect::<Vec<_>>().concat()
}
