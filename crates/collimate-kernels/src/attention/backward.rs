//! Attention backward: weights are recomputed from the saved log-sum-exps, block by block.

use std::ops::Range;

use rayon::prelude::*;

use super::blocks::{KeyBlock, QueryBlock, gather};
use super::forward::softcapped;
use super::{AttentionSaved, AttentionShape, Segment, Shared, check_segments};
use crate::element::{Element, Start, in_float32};
use crate::gemm::{BlockProducts, View};
use crate::simd::{dispatch, exp, sum_zip};

/// Maximum number of tasks for the responses of one prompt, whatever the number of threads. Each has its own sum of the
/// gradients of the prompt's keys and values.
const PARTS: usize = 8;

/// Gradients of queries, keys and values; all three are overwritten.
///
/// Those of keys and values are summed in float32, which takes as much memory again for what is not float32 itself.
pub fn attention_backward<T: Element>(
    shape: &AttentionShape,
    segments: &[Segment],
    saved: AttentionSaved<'_, T>,
    d_out: &[T],
    d_q: &mut [T],
    d_k: &mut [T],
    d_v: &mut [T],
) {
    attention_backward_by(BlockProducts::of::<T>(), shape, segments, saved, d_out, [d_q, d_k, d_v]);
}

/// [`attention_backward`] with these products.
pub(crate) fn attention_backward_by<T: Element>(
    products: BlockProducts,
    shape: &AttentionShape,
    segments: &[Segment],
    saved: AttentionSaved<'_, T>,
    d_out: &[T],
    [d_q, d_k, d_v]: [&mut [T]; 3],
) {
    check_segments(segments, saved.lse.len() / shape.heads);
    let d_q = Shared::new(d_q);
    in_float32(d_k, Start::Zeros, |d_k| {
        in_float32(d_v, Start::Zeros, |d_v| {
            let (d_k, d_v) = (Shared::new(d_k), Shared::new(d_v));
            Pass { products, shape, saved, d_out, d_q, d_k, d_v }.run(&jobs(segments));
        });
    });
}

/// The operands of a backward pass.
#[derive(Clone, Copy)]
struct Pass<'a, T> {
    products: BlockProducts,
    shape: &'a AttentionShape,
    saved: AttentionSaved<'a, T>,
    d_out: &'a [T],
    d_q: Shared<T>,
    d_k: Shared<f32>,
    d_v: Shared<f32>,
}

impl<T: Element> Pass<'_, T> {
    fn run(&self, jobs: &[Job<'_>]) {
        let shape = self.shape;
        let tasks: Vec<_> = jobs.iter().flat_map(|job| (0..shape.kv_heads).map(move |head| (job, head))).collect();
        let context_gradients: Vec<KeyGradients> = tasks
            .par_iter()
            .map_init(Scratch::default, |scratch, &(job, kv_head)| {
                let mut context = KeyGradients::zeros(job.context.len(), shape.head_dim);
                for segment in job.segments {
                    let own = scratch.segment_backward(self, segment, kv_head, &mut context);
                    // SAFETY: a row is in one segment, and each task has its own heads.
                    unsafe { own.add_to(self, &segment.rows, kv_head) };
                }
                context
            })
            .collect();
        // The responses' contributions to their prompts' gradients, in the order of the segments.
        (0..shape.kv_heads).into_par_iter().for_each(|kv_head| {
            for (&(job, head), gradients) in tasks.iter().zip(&context_gradients) {
                if head == kv_head {
                    // SAFETY: only this task writes this head.
                    unsafe { gradients.add_to(self, &job.context, kv_head) };
                }
            }
        });
    }
}

/// Consecutive segments with one context.
struct Job<'a> {
    context: Range<usize>,
    segments: &'a [Segment],
}

/// Divides runs of segments with the same context into at most [`PARTS`] jobs.
fn jobs(segments: &[Segment]) -> Vec<Job<'_>> {
    let runs = segments.chunk_by(|a, b| !a.context.is_empty() && a.context == b.context);
    let parts = runs.flat_map(|run| run.chunks(run.len().div_ceil(PARTS)));
    parts.map(|segments| Job { context: segments[0].context.clone(), segments }).collect()
}

/// Gradients of one head of a range of keys and values, [rows, head_dim] each.
struct KeyGradients {
    k: Vec<f32>,
    v: Vec<f32>,
}

impl KeyGradients {
    fn zeros(rows: usize, dim: usize) -> Self {
        Self { k: vec![0.0; rows * dim], v: vec![0.0; rows * dim] }
    }

    /// Adds them to the pass's output.
    ///
    /// # Safety
    /// No other task may access these rows of this head.
    unsafe fn add_to<T>(&self, pass: &Pass<'_, T>, rows: &Range<usize>, kv_head: usize) {
        let (dim, width) = (pass.shape.head_dim, pass.shape.key_width());
        for (from, to) in [(&self.k, pass.d_k), (&self.v, pass.d_v)] {
            for (row, from) in rows.clone().zip(from.chunks_exact(dim)) {
                // SAFETY: by the caller's promise.
                let to = unsafe { to.part(row * width + kv_head * dim, dim) };
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
            }
        }
    }
}

/// A task's buffers; rows are those of a query block for each query head of the key-value head.
#[derive(Default)]
struct Scratch {
    /// Queries, scaled for products in float32, [group · rows, head_dim].
    q: Vec<f32>,
    /// Gradient of the output, [group · rows, head_dim].
    d_out: Vec<f32>,
    /// The output, [group · rows, head_dim].
    out: Vec<f32>,
    /// Gradient of the unscaled queries, [group · rows, head_dim].
    d_q: Vec<f32>,
    /// Log-sum-exp of each row.
    lse: Vec<f32>,
    /// Σ d_out · out of each row.
    delta: Vec<f32>,
    /// A block of keys or values, if they are not float32 already, [keys, head_dim].
    tile: Vec<f32>,
    /// Weights of a block of keys, [group · rows, keys].
    weights: Vec<f32>,
    /// Gradient of the scores, [group · rows, keys].
    d_scores: Vec<f32>,
}

impl Scratch {
    /// Writes the gradients of a segment's queries, adds those of its context's keys and values to `context`, and returns
    /// those of its own.
    fn segment_backward<T: Element>(
        &mut self,
        pass: &Pass<'_, T>,
        segment: &Segment,
        kv_head: usize,
        context: &mut KeyGradients,
    ) -> KeyGradients {
        let Pass { products, shape, saved, .. } = pass;
        let (dim, (_, after)) = (shape.head_dim, products.before_and_after(shape.scale));
        let mut own = KeyGradients::zeros(segment.rows.len(), dim);
        for block in shape.query_blocks(segment) {
            let rows = shape.group() * block.own.len();
            self.load(pass, &block, kv_head);
            for keys in block.key_blocks(shape.window) {
                let len = keys.rows.len();
                self.score(pass, &block, &keys, kv_head);
                let (gradients, first) = match keys.position < segment.context.len() {
                    true => (&mut *context, keys.position),
                    false => (&mut own, keys.position - segment.context.len()),
                };
                let part = first * dim..(first + len) * dim;
                let weights = View::new(&self.weights, rows, len, len).transpose();
                let d_scores = View::new(&self.d_scores, rows, len, len);
                let view = |data| View::new(data, rows, dim, dim);
                products.multiply(&mut gradients.v[part.clone()], true, 1.0, weights, view(&self.d_out));
                products.multiply(&mut gradients.k[part], true, after, d_scores.transpose(), view(&self.q));
                let key = shape.head_view(saved.k, &keys.rows, kv_head, &mut self.tile);
                products.multiply(&mut self.d_q, true, shape.scale, d_scores, key);
            }
            // SAFETY: a row is in one segment and so in one block, and each task has its own heads.
            unsafe { self.store(pass, &block, kv_head) };
        }
        own
    }

    /// Gathers what the pass reads for a block of queries.
    fn load<T: Element>(&mut self, pass: &Pass<'_, T>, block: &QueryBlock<'_>, kv_head: usize) {
        let Pass { products, shape, saved, d_out, .. } = pass;
        let (rows, dim, (before, _)) = (block.rows(), shape.head_dim, products.before_and_after(shape.scale));
        gather(shape, saved.q, &rows, kv_head, before, &mut self.q);
        gather(shape, d_out, &rows, kv_head, 1.0, &mut self.d_out);
        gather(shape, saved.out, &rows, kv_head, 1.0, &mut self.out);
        self.d_q.clear();
        self.d_q.resize(self.q.len(), 0.0);
        self.lse.clear();
        for head in kv_head * shape.group()..(kv_head + 1) * shape.group() {
            self.lse.extend(rows.clone().map(|row| saved.lse[row * shape.heads + head]));
        }
        let Self { delta, d_out, out, .. } = self;
        delta.clear();
        dispatch(
            #[inline(always)]
            || {
                for (d, o) in d_out.chunks_exact(dim).zip(out.chunks_exact(dim)) {
                    delta.push(sum_zip(d, o, |d, o| d * o));
                }
            },
        );
    }

    /// Computes the weights of a block of keys and the gradient of its scores.
    fn score<T: Element>(&mut self, pass: &Pass<'_, T>, block: &QueryBlock<'_>, keys: &KeyBlock, kv_head: usize) {
        let Pass { products, shape, saved, .. } = pass;
        let (_, after) = products.before_and_after(shape.scale);
        let (dim, len, rows) = (shape.head_dim, keys.rows.len(), self.lse.len());
        self.weights.resize(rows * len, 0.0);
        self.d_scores.resize(rows * len, 0.0);
        let view = |data| View::new(data, rows, dim, dim);
        let key = shape.head_view(saved.k, &keys.rows, kv_head, &mut self.tile).transpose();
        products.multiply(&mut self.weights, false, after, view(&self.q), key);
        let value = shape.head_view(saved.v, &keys.rows, kv_head, &mut self.tile).transpose();
        products.multiply(&mut self.d_scores, false, 1.0, view(&self.d_out), value);
        let Self { weights, d_scores, lse, delta, .. } = self;
        dispatch(
            #[inline(always)]
            || {
                let tile = weights.chunks_exact_mut(len).zip(d_scores.chunks_exact_mut(len));
                for (row, (weights, d_scores)) in tile.enumerate() {
                    let seen = block.sees(row % block.own.len(), keys, shape.window);
                    for hidden in [0..seen.start, seen.end..len] {
                        weights[hidden.clone()].fill(0.0);
                        d_scores[hidden].fill(0.0);
                    }
                    let (weights, d_scores) = (&mut weights[seen.clone()], &mut d_scores[seen]);
                    row_backward(weights, d_scores, lse[row], delta[row], shape.softcap);
                }
            },
        );
    }

    /// Writes the gradient of the block's queries.
    ///
    /// # Safety
    /// No other task may access these rows of these heads.
    unsafe fn store<T: Element>(&self, pass: &Pass<'_, T>, block: &QueryBlock<'_>, kv_head: usize) {
        let (shape, dim) = (pass.shape, pass.shape.head_dim);
        let mut rows = self.d_q.chunks_exact(dim);
        for head in kv_head * shape.group()..(kv_head + 1) * shape.group() {
            for (row, from) in block.rows().zip(rows.by_ref()) {
                // SAFETY: by the caller's promise.
                let to = unsafe { pass.d_q.part(row * shape.query_width() + head * dim, dim) };
                to.iter_mut().zip(from).for_each(|(to, &from)| *to = T::narrow(from));
            }
        }
    }
}

/// Replaces scores by weights, and gradients of weights by gradients of scores: dS = P · (dP − Σ dO·O).
#[inline(always)]
fn row_backward(weights: &mut [f32], d: &mut [f32], lse: f32, delta: f32, softcap: Option<f32>) {
    match softcap {
        None => {
            for (weight, d) in weights.iter_mut().zip(d) {
                *weight = exp(*weight - lse);
                *d = *weight * (*d - delta);
            }
        }
        Some(cap) => {
            for (weight, d) in weights.iter_mut().zip(d) {
                let capped = softcapped(*weight, cap);
                *weight = exp(capped - lse);
                *d = *weight * (*d - delta) * (1.0 - (capped / cap) * (capped / cap));
            }
        }
    }
}
