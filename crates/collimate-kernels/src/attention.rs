//! Grouped-query attention over prompts and their responses, in blocks, so that scores are never all in memory.
//!
//! The query heads that share a key-value head are stacked as rows of a tile, so that one product serves all of them. A
//! segment's division into blocks depends only on its own lengths, and so do the bits of its results.
#![allow(unsafe_code)] // tasks write disjoint rows and heads of one matrix, which slices cannot express

mod backward;
mod blocks;
mod forward;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use backward::attention_backward;
#[cfg(test)]
pub(crate) use backward::attention_backward_by;
pub use forward::attention;
#[cfg(test)]
pub(crate) use forward::{Inputs, Outputs, attention_by};

/// Rows of a pack that attend to the same context: a prompt, or one response to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Rows before the segment's own in its sequence, which all of them attend to; empty for a prompt.
    pub context: Range<usize>,
    /// The segment's own rows; each attends to the context, the rows before it and itself.
    pub rows: Range<usize>,
}

/// Sizes and options of attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    /// Query heads, H.
    pub heads: usize,
    /// Key and value heads, H_kv; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Multiplies scores; usually 1/√head_dim.
    pub scale: f32,
    /// Limits a query to the last `window` positions of its sequence, including its own.
    pub window: Option<usize>,
    /// Squashes scores to `softcap · tanh(score / softcap)`.
    pub softcap: Option<f32>,
}

/// What [`attention_backward`] reads; shapes as in [`attention`].
#[derive(Debug, Clone, Copy)]
pub struct AttentionSaved<'a, T = f32> {
    /// Queries.
    pub q: &'a [T],
    /// Keys.
    pub k: &'a [T],
    /// Values.
    pub v: &'a [T],
    /// The output of [`attention`].
    pub out: &'a [T],
    /// The log-sum-exps of [`attention`].
    pub lse: &'a [f32],
}

impl AttentionShape {
    /// Query heads per key-value head.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Width of a row of queries.
    fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of a row of keys or values.
    fn key_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// Panics unless segments lie in the pack and share no row, which makes tasks disjoint.
fn check_segments(segments: &[Segment], rows: usize) {
    let mut seen = vec![false; rows];
    for segment in segments {
        assert!(segment.context.end <= rows && segment.rows.end <= rows, "a segment outside the pack");
        for row in segment.rows.clone() {
            assert!(!std::mem::replace(&mut seen[row], true), "row {row} is in two segments");
        }
    }
}

/// A matrix to which tasks write disjoint parts.
#[derive(Clone, Copy)]
struct Shared<T> {
    data: *mut T,
    len: usize,
}

// SAFETY: callers of `Shared::part` promise that no element is written by two tasks.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn new(data: &mut [T]) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len() }
    }

    /// The elements `start..start + len`.
    ///
    /// # Safety
    /// No other task may access them while the slice lives.
    unsafe fn part<'a>(self, start: usize, len: usize) -> &'a mut [T] {
        assert!(start + len <= self.len, "a part outside the matrix");
        // SAFETY: in bounds by the assert, and exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), len) }
    }
}
