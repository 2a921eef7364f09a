//! Attention forward: one pass over the keys of each query block with a running maximum.

use rayon::prelude::*;

use super::blocks::{KeyBlock, QueryBlock, gather};
use super::{AttentionShape, Segment, Shared, check_segments};
use crate::element::Element;
use crate::gemm::{BlockProducts, View};
use crate::simd::{dispatch, exp, max, sum, tanh};

/// Attention of every segment.
///
/// # Shapes
/// `q` and `out` are [N, H · head_dim], `k` and `v` [N, H_kv · head_dim], `lse` [N, H]: the log-sum-exp of each row's
/// scores, which [`attention_backward`](crate::attention_backward) reads. Every row of the pack is in exactly one
/// segment's `rows`.
pub fn attention<T: Element>(
    shape: &AttentionShape,
    segments: &[Segment],
    q: &[T],
    k: &[T],
    v: &[T],
    out: &mut [T],
    lse: &mut [f32],
) {
    attention_by(BlockProducts::of::<T>(), shape, segments, Inputs { q, k, v }, Outputs { out, lse });
}

/// [`attention`] with these products.
pub(crate) fn attention_by<T: Element>(
    products: BlockProducts,
    shape: &AttentionShape,
    segments: &[Segment],
    inputs: Inputs<'_, T>,
    outputs: Outputs<'_, T>,
) {
    let Outputs { out, lse } = outputs;
    check_segments(segments, lse.len() / shape.heads);
    let (out, lse) = (Shared::new(out), Shared::new(lse));
    let blocks: Vec<QueryBlock<'_>> = segments.iter().flat_map(|segment| shape.query_blocks(segment)).collect();
    let tasks: Vec<_> = blocks.iter().flat_map(|block| (0..shape.kv_heads).map(move |head| (block, head))).collect();
    tasks.par_iter().for_each_init(Scratch::default, |scratch, &(block, kv_head)| {
        scratch.attend(products, shape, block, kv_head, inputs);
        // SAFETY: a row is in one segment and so in one block, and each task has its own heads.
        unsafe { scratch.store(shape, block, kv_head, out, lse) };
    });
}

/// Where a pass writes.
pub(crate) struct Outputs<'a, T> {
    pub(crate) out: &'a mut [T],
    pub(crate) lse: &'a mut [f32],
}

#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a, T> {
    pub(crate) q: &'a [T],
    pub(crate) k: &'a [T],
    pub(crate) v: &'a [T],
}

/// A task's buffers.
#[derive(Default)]
struct Scratch {
    /// Queries, scaled for products in float32, [group · rows, head_dim].
    q: Vec<f32>,
    /// A block of keys or values, if they are not float32 already, [keys, head_dim].
    tile: Vec<f32>,
    /// Scores of a block of keys, replaced by weights, [group · rows, keys].
    scores: Vec<f32>,
    /// Running weighted sums of values, [group · rows, head_dim].
    mixed: Vec<f32>,
    /// Running maximum of each row's scores, and Σ e^(score − maximum).
    highest: Vec<f32>,
    total: Vec<f32>,
}

impl Scratch {
    fn attend<T: Element>(
        &mut self,
        products: BlockProducts,
        shape: &AttentionShape,
        block: &QueryBlock<'_>,
        kv_head: usize,
        inputs: Inputs<'_, T>,
    ) {
        let Inputs { q, k, v } = inputs;
        let dim = shape.head_dim;
        let (before, after) = products.before_and_after(shape.scale);
        gather(shape, q, &block.rows(), kv_head, before, &mut self.q);
        let rows = shape.group() * block.own.len();
        for (list, value) in [(&mut self.highest, f32::MIN), (&mut self.total, 0.0)] {
            list.clear();
            list.resize(rows, value);
        }
        self.mixed.clear();
        self.mixed.resize(rows * dim, 0.0);
        for keys in block.key_blocks(shape.window) {
            let len = keys.rows.len();
            self.scores.resize(rows * len, 0.0);
            let key = shape.head_view(k, &keys.rows, kv_head, &mut self.tile).transpose();
            products.multiply(&mut self.scores, false, after, View::new(&self.q, rows, dim, dim), key);
            self.weigh(shape, block, &keys);
            let value = shape.head_view(v, &keys.rows, kv_head, &mut self.tile);
            products.multiply(&mut self.mixed, true, 1.0, View::new(&self.scores, rows, len, len), value);
        }
    }

    /// Turns scores into weights e^(score − running maximum), and rescales earlier sums to the new maximum.
    fn weigh(&mut self, shape: &AttentionShape, block: &QueryBlock<'_>, keys: &KeyBlock) {
        let Self { scores, mixed, highest, total, .. } = self;
        dispatch(
            #[inline(always)]
            || {
                let rows = scores.chunks_exact_mut(keys.rows.len()).zip(mixed.chunks_exact_mut(shape.head_dim));
                for (row, (scores, mixed)) in rows.enumerate() {
                    let seen = block.sees(row % block.own.len(), keys, shape.window);
                    scores[..seen.start].fill(0.0);
                    scores[seen.end..].fill(0.0);
                    let scores = &mut scores[seen];
                    if scores.is_empty() {
                        continue;
                    }
                    if let Some(cap) = shape.softcap {
                        for score in scores.iter_mut() {
                            *score = softcapped(*score, cap);
                        }
                    }
                    let largest = max(scores).max(highest[row]);
                    let shrink = exp(highest[row] - largest);
                    for score in scores.iter_mut() {
                        *score = exp(*score - largest);
                    }
                    total[row] = total[row] * shrink + sum(scores);
                    for x in mixed.iter_mut() {
                        *x *= shrink;
                    }
                    highest[row] = largest;
                }
            },
        );
    }

    /// Writes the block's rows of this task's heads.
    ///
    /// # Safety
    /// No other task may access them.
    unsafe fn store<T: Element>(
        &self,
        shape: &AttentionShape,
        block: &QueryBlock<'_>,
        kv_head: usize,
        out: Shared<T>,
        lse: Shared<f32>,
    ) {
        let dim = shape.head_dim;
        let mut rows = self.mixed.chunks_exact(dim).zip(self.highest.iter().zip(&self.total));
        for head in kv_head * shape.group()..(kv_head + 1) * shape.group() {
            for (row, (mixed, (highest, total))) in block.rows().zip(rows.by_ref()) {
                let inverse = 1.0 / total;
                // SAFETY: by the caller's promise.
                let (to, lse) = unsafe {
                    (out.part(row * shape.query_width() + head * dim, dim), lse.part(row * shape.heads + head, 1))
                };
                to.iter_mut().zip(mixed).for_each(|(to, x)| *to = T::narrow(x * inverse));
                lse[0] = highest + total.ln();
            }
        }
    }
}

#[inline(always)]
pub(super) fn softcapped(score: f32, cap: f32) -> f32 {
    cap * tanh(score / cap)
}
