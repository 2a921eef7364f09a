//! Grouped-query attention of prompts and their responses, in blocks: scores are never held whole.
//!
//! The query heads of one key-value head stand below each other in a tile, so that one product serves all of them. How a
//! segment is divided into blocks depends on its own lengths only, and so do the bits of its results.
#![allow(unsafe_code)] // tasks write rows and heads of one matrix that are disjoint, which slices cannot say

mod backward;
mod blocks;
mod forward;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use backward::attention_backward;
pub use forward::attention;

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

impl AttentionShape {
    /// Query heads of one key-value head.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Numbers of a row of queries.
    fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Numbers of a row of keys or values.
    fn key_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// Panics unless segments lie in the pack and no row is in two of them, which is what makes tasks disjoint.
fn check_segments(segments: &[Segment], rows: usize) {
    let mut seen = vec![false; rows];
    for segment in segments {
        assert!(segment.context.end <= rows && segment.rows.end <= rows, "a segment outside of the pack");
        for row in segment.rows.clone() {
            assert!(!std::mem::replace(&mut seen[row], true), "row {row} is in two segments");
        }
    }
}

/// A matrix that tasks write to at places of their own.
#[derive(Clone, Copy)]
struct Shared {
    data: *mut f32,
    len: usize,
}

// SAFETY: every user of `Shared::row` promises that no place is written by two tasks.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn new(data: &mut [f32]) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len() }
    }

    /// The numbers `start..start + len`.
    ///
    /// # Safety
    /// Nobody else reads or writes them meanwhile.
    unsafe fn part<'a>(self, start: usize, len: usize) -> &'a mut [f32] {
        assert!(start + len <= self.len, "a part outside of the matrix");
        // SAFETY: inside of the matrix by the assert, and nobody else's by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), len) }
    }
}
