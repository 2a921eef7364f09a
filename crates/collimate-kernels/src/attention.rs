//! Grouped-query attention of prompts and their responses.

use std::ops::Range;

/// Rows of a pack that attend together: a prompt, or one response with the prompt that it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Rows that precede the segment's own in its sequence and that all of them may attend to; empty for a prompt.
    pub context: Range<usize>,
    /// The segment's own rows, each attending to the context, to itself and to the rows before it.
    pub rows: Range<usize>,
}

/// Sizes and rules of attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    /// Query heads, H.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Numbers of a head.
    pub head_dim: usize,
    /// Scores are multiplied by it, most often 1/√head_dim.
    pub scale: f32,
    /// A query sees the last `window` places of its sequence, its own included.
    pub window: Option<usize>,
    /// Scores are squashed to `softcap · tanh(score / softcap)`.
    pub softcap: Option<f32>,
}

/// Attention of every segment.
///
/// # Shapes
/// `q` and `out` are [N, H · head_dim], `k` and `v` [N, H_kv · head_dim], `lse` [N, H]: the log-sum-exp of each row's
/// scores, which [`attention_backward`] reads. Every row of the pack is in exactly one segment's `rows`.
pub fn attention(
    shape: &AttentionShape,
    segments: &[Segment],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &mut [f32],
    lse: &mut [f32],
) {
    let _ = (shape, segments, q, k, v, out, lse);
    unimplemented!()
}

/// What [`attention_backward`] reads, shapes as in [`attention`].
#[derive(Debug, Clone, Copy)]
pub struct AttentionSaved<'a> {
    /// Queries.
    pub q: &'a [f32],
    /// Keys.
    pub k: &'a [f32],
    /// Values.
    pub v: &'a [f32],
    /// What [`attention`] gave.
    pub out: &'a [f32],
    /// What [`attention`] gave.
    pub lse: &'a [f32],
}

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
    let _ = (shape, segments, saved, d_out, d_q, d_k, d_v);
    unimplemented!()
}
