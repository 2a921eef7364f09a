//! Attention backward: weights are made again from the saved log-sum-exp, block by block.

use std::ops::Range;

use rayon::prelude::*;

use super::blocks::{KeyBlock, QueryBlock, gather};
use super::forward::softcapped;
use super::{AttentionSaved, AttentionShape, Segment, Shared, check_segments};
use crate::gemm::{View, multiply_here};
use crate::simd::{dispatch, exp, sum_zip};

/// Tasks that the responses of one prompt are divided into at most, whatever the number of threads: each gathers a
/// gradient of the prompt's keys and values of its own.
const PARTS: usize = 8;

/// Gradients of queries, keys and values; all three are overwritten.
pub fn attention_backward(
    shape: &AttentionShape,
    segments: &[Segment],
    saved: AttentionSaved<'_>,
    d_out: &[f32],
    d_q: &mut [f32],
    d_k: &mut [f32],
    d_v: &mut [f32],
) {
    check_segments(segments, saved.lse.len() / shape.heads);
    d_k.fill(0.0);
    d_v.fill(0.0);
    let outputs = Outputs { d_q: Shared::new(d_q), d_k: Shared::new(d_k), d_v: Shared::new(d_v) };
    let jobs = jobs(segments);
    let tasks: Vec<_> = jobs.iter().flat_map(|job| (0..shape.kv_heads).map(move |head| (job, head))).collect();
    let gathered: Vec<KeyGradients> = tasks
        .par_iter()
        .map_init(Scratch::default, |scratch, &(job, kv_head)| {
            let mut of_context = KeyGradients::zeros(job.context.len(), shape.head_dim);
            for segment in job.segments {
                let mut of_own = KeyGradients::zeros(segment.rows.len(), shape.head_dim);
                scratch.segment_backward(
                    shape,
                    (segment, kv_head),
                    &saved,
                    d_out,
                    &outputs,
                    [&mut of_context, &mut of_own],
                );
                // SAFETY: rows are in one segment, and each task has its own heads.
                unsafe { of_own.add_to(shape, &segment.rows, kv_head, &outputs) };
            }
            of_context
        })
        .collect();
    // What responses add to their prompts, in the order of the segments; heads are apart from each other.
    (0..shape.kv_heads).into_par_iter().for_each(|kv_head| {
        for (&(job, head), gradients) in tasks.iter().zip(&gathered) {
            if head == kv_head {
                // SAFETY: only this task writes this head.
                unsafe { gradients.add_to(shape, &job.context, kv_head, &outputs) };
            }
        }
    });
}

/// Segments with one context, worked on one after the other.
struct Job<'a> {
    context: Range<usize>,
    segments: &'a [Segment],
}

/// Segments that follow each other with the same context, in at most [`PARTS`] parts.
fn jobs(segments: &[Segment]) -> Vec<Job<'_>> {
    let runs = segments.chunk_by(|a, b| !a.context.is_empty() && a.context == b.context);
    let parts = runs.flat_map(|run| run.chunks(run.len().div_ceil(PARTS)));
    parts.map(|segments| Job { context: segments[0].context.clone(), segments }).collect()
}

#[derive(Clone, Copy)]
struct Outputs {
    d_q: Shared,
    d_k: Shared,
    d_v: Shared,
}

/// Gradients of one head of some rows' keys and values, [rows, head_dim] each.
struct KeyGradients {
    k: Vec<f32>,
    v: Vec<f32>,
}

impl KeyGradients {
    fn zeros(rows: usize, dim: usize) -> Self {
        Self { k: vec![0.0; rows * dim], v: vec![0.0; rows * dim] }
    }

    /// # Safety
    /// No other task writes these rows of this head.
    unsafe fn add_to(&self, shape: &AttentionShape, rows: &Range<usize>, kv_head: usize, outputs: &Outputs) {
        let dim = shape.head_dim;
        for (from, to) in [(&self.k, outputs.d_k), (&self.v, outputs.d_v)] {
            for (row, from) in rows.clone().zip(from.chunks_exact(dim)) {
                // SAFETY: by this function's own contract.
                let to = unsafe { to.part(row * shape.key_width() + kv_head * dim, dim) };
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
            }
        }
    }
}

/// What a task works on; rows are those of a query block for each query head of the key-value head.
#[derive(Default)]
struct Scratch {
    /// Scaled queries, [group · rows, head_dim].
    q: Vec<f32>,
    /// Gradient of the output, [group · rows, head_dim].
    d_out: Vec<f32>,
    /// The output, [group · rows, head_dim].
    out: Vec<f32>,
    /// Gradient of the unscaled queries, [group · rows, head_dim].
    d_q: Vec<f32>,
    /// Log-sum-exp of each row, and Σ d_out · out.
    lse: Vec<f32>,
    delta: Vec<f32>,
    /// Weights of a block of keys, and the gradient of the scores, [group · rows, keys].
    weights: Vec<f32>,
    d_scores: Vec<f32>,
}

impl Scratch {
    fn segment_backward(
        &mut self,
        shape: &AttentionShape,
        (segment, kv_head): (&Segment, usize),
        saved: &AttentionSaved<'_>,
        d_out: &[f32],
        outputs: &Outputs,
        [of_context, of_own]: [&mut KeyGradients; 2],
    ) {
        let dim = shape.head_dim;
        for block in shape.query_blocks(segment) {
            let rows = shape.group() * block.own.len();
            self.load(shape, &block, kv_head, saved, d_out);
            for keys in block.key_blocks(shape.window) {
                let len = keys.rows.len();
                self.score(shape, &block, &keys, kv_head, saved);
                let (gradients, first) = match keys.position < segment.context.len() {
                    true => (&mut *of_context, keys.position),
                    false => (&mut *of_own, keys.position - segment.context.len()),
                };
                let part = first * dim..(first + len) * dim;
                let weights = View::new(&self.weights, rows, len, len).transpose();
                let d_scores = View::new(&self.d_scores, rows, len, len);
                let view = |data| View::new(data, rows, dim, dim);
                multiply_here(&mut gradients.v[part.clone()], true, 1.0, weights, view(&self.d_out));
                multiply_here(&mut gradients.k[part], true, 1.0, d_scores.transpose(), view(&self.q));
                let key = shape.head_view(saved.k, &keys.rows, kv_head);
                multiply_here(&mut self.d_q, true, shape.scale, d_scores, key);
            }
            // SAFETY: rows of the pack are in one segment and so in one block, and each task has its own heads.
            unsafe { self.store(shape, &block, kv_head, outputs) };
        }
    }

    fn load(
        &mut self,
        shape: &AttentionShape,
        block: &QueryBlock<'_>,
        kv_head: usize,
        saved: &AttentionSaved<'_>,
        d_out: &[f32],
    ) {
        let (rows, dim) = (block.rows(), shape.head_dim);
        gather(shape, saved.q, &rows, kv_head, shape.scale, &mut self.q);
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

    /// Weights of a block of keys and the gradient of its scores.
    fn score(
        &mut self,
        shape: &AttentionShape,
        block: &QueryBlock<'_>,
        keys: &KeyBlock,
        kv_head: usize,
        saved: &AttentionSaved<'_>,
    ) {
        let (dim, len, rows) = (shape.head_dim, keys.rows.len(), self.lse.len());
        self.weights.resize(rows * len, 0.0);
        self.d_scores.resize(rows * len, 0.0);
        let view = |data| View::new(data, rows, dim, dim);
        let key = shape.head_view(saved.k, &keys.rows, kv_head).transpose();
        multiply_here(&mut self.weights, false, 1.0, view(&self.q), key);
        let value = shape.head_view(saved.v, &keys.rows, kv_head).transpose();
        multiply_here(&mut self.d_scores, false, 1.0, view(&self.d_out), value);
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
    /// No other task writes these rows of these heads.
    unsafe fn store(&self, shape: &AttentionShape, block: &QueryBlock<'_>, kv_head: usize, outputs: &Outputs) {
        let dim = shape.head_dim;
        let mut rows = self.d_q.chunks_exact(dim);
        for head in kv_head * shape.group()..(kv_head + 1) * shape.group() {
            for (row, from) in block.rows().zip(rows.by_ref()) {
                // SAFETY: by this function's own contract.
                unsafe { outputs.d_q.part(row * shape.query_width() + head * dim, dim) }.copy_from_slice(from);
            }
        }
    }
}

/// Scores become weights, gradients of weights become gradients of scores: dS = P · (dP − Σ dO·O).
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
