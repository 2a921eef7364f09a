//! A causal convolution of each column with a few taps, then SiLU, over prompts and their responses.
//!
//! A row reads the rows before it in its sequence: the first rows of a response read the last of its prompt.

use rayon::prelude::*;

use collimate_kernels::simd::{dispatch, exp};
use collimate_kernels::{Element, Segment};

/// Rows per task; sums over rows are split there whatever the number of threads.
const ROWS: usize = 64;

/// The weight of a causal convolution, and what its rows follow.
#[derive(Debug, Clone, Copy)]
pub struct Convolution<'a> {
    /// [C, taps]; the last tap is the row itself.
    pub weight: &'a [f32],
    /// Number of taps.
    pub taps: usize,
    /// Sequences of rows; every row is in exactly one segment's `rows`.
    pub segments: &'a [Segment],
}

/// `out = silu(Σ_t weight[·, t] · x[row − taps + 1 + t])`; `x` and `out` are [N, C].
pub fn convolution<T: Element>(convolution: &Convolution<'_>, x: &[T], out: &mut [T]) {
    let taps = Taps::new(convolution);
    let width = taps.width;
    assert_eq!(x.len(), out.len(), "operands of one size");
    out.par_chunks_mut((ROWS * width).max(1)).enumerate().for_each(|(task, out)| {
        let mut sums = vec![0.0; width];
        dispatch(
            #[inline(always)]
            || {
                for (row, out) in out.chunks_exact_mut(width).enumerate() {
                    taps.sums(x, task * ROWS + row, &mut sums);
                    for (out, &sum) in out.iter_mut().zip(&sums) {
                        *out = T::narrow(sum * sigmoid(sum));
                    }
                }
            },
        );
    });
}

/// The gradient of `x`, [N, C], given that of the output; adds the weight's, [C, taps], to `d_weight` if given.
pub fn convolution_backward<T: Element>(
    convolution: &Convolution<'_>,
    x: &[T],
    d_out: &[T],
    d_weight: Option<&mut [f32]>,
) -> Vec<T> {
    let taps = Taps::new(convolution);
    assert_eq!(x.len(), d_out.len(), "operands of one size");
    let d_sums = taps.d_sums(x, d_out);
    if let Some(d_weight) = d_weight {
        taps.add_d_weight(x, &d_sums, d_weight);
    }
    let (width, readers) = (taps.width, taps.readers());
    let mut d_x = vec![T::default(); x.len()];
    d_x.par_chunks_mut((ROWS * width).max(1)).enumerate().for_each(|(task, d_x)| {
        let mut sums = vec![0.0; width];
        dispatch(
            #[inline(always)]
            || {
                for (row, d_x) in d_x.chunks_exact_mut(width).enumerate() {
                    sums.fill(0.0);
                    for &(reader, tap) in readers.of(task * ROWS + row) {
                        let d = &d_sums[reader as usize * width..][..width];
                        for ((sum, &w), &d) in sums.iter_mut().zip(taps.weight(tap as usize)).zip(d) {
                            *sum = w.mul_add(d, *sum);
                        }
                    }
                    for (d_x, &sum) in d_x.iter_mut().zip(&sums) {
                        *d_x = T::narrow(sum);
                    }
                }
            },
        );
    });
    d_x
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// A convolution as the loops read it.
struct Taps {
    count: usize,
    /// Number of columns, C.
    width: usize,
    /// By tap, [taps, C].
    weights: Vec<f32>,
    /// For each row the rows that its taps read, if there are any, [N, taps].
    sources: Vec<Option<u32>>,
}

impl Taps {
    fn new(convolution: &Convolution<'_>) -> Self {
        let Convolution { weight, taps: count, segments } = *convolution;
        assert!(weight.len().is_multiple_of(count.max(1)), "a weight for each column and tap");
        let width = weight.len() / count.max(1);
        let weights = (0..count).flat_map(|tap| (0..width).map(move |column| weight[column * count + tap])).collect();
        let rows = segments.iter().map(|segment| segment.rows.end).max().unwrap_or(0);
        let mut sources = vec![None; rows * count];
        for segment in segments {
            for (index, row) in segment.rows.clone().enumerate() {
                for (tap, source) in sources[row * count..(row + 1) * count].iter_mut().enumerate() {
                    *source = source_of(segment, index, count - 1 - tap).map(|row| row as u32);
                }
            }
        }
        Self { count, width, weights, sources }
    }

    fn weight(&self, tap: usize) -> &[f32] {
        &self.weights[tap * self.width..][..self.width]
    }

    /// Taps of a row and the rows that they read.
    #[inline(always)]
    fn of(&self, row: usize) -> impl Iterator<Item = (usize, usize)> {
        let sources = self.sources[row * self.count..(row + 1) * self.count].iter();
        sources.enumerate().filter_map(|(tap, source)| source.map(|source| (tap, source as usize)))
    }

    /// The sums of one row before SiLU, [C].
    #[inline(always)]
    fn sums<T: Element>(&self, x: &[T], row: usize, sums: &mut [f32]) {
        sums.fill(0.0);
        for (tap, source) in self.of(row) {
            let x = &x[source * self.width..][..self.width];
            for ((sum, &w), &x) in sums.iter_mut().zip(self.weight(tap)).zip(x) {
                *sum = w.mul_add(x.widen(), *sum);
            }
        }
    }

    /// Gradients of all rows' sums before SiLU, [N, C].
    fn d_sums<T: Element>(&self, x: &[T], d_out: &[T]) -> Vec<f32> {
        let mut all = vec![0.0; x.len()];
        let task = (ROWS * self.width).max(1);
        all.par_chunks_mut(task).zip(d_out.par_chunks(task)).enumerate().for_each(|(task, (sums, d_out))| {
            dispatch(
                #[inline(always)]
                || {
                    let rows = sums.chunks_exact_mut(self.width).zip(d_out.chunks_exact(self.width));
                    for (row, (sums, d_out)) in rows.enumerate() {
                        self.sums(x, task * ROWS + row, sums);
                        for (sum, &d) in sums.iter_mut().zip(d_out) {
                            let s = sigmoid(*sum);
                            *sum = d.widen() * s * (1.0 + *sum * (1.0 - s));
                        }
                    }
                },
            );
        });
        all
    }

    /// Adds the gradient of the weight, [C, taps].
    fn add_d_weight<T: Element>(&self, x: &[T], d_sums: &[f32], d_weight: &mut [f32]) {
        let width = self.width;
        let parts = d_sums.par_chunks((ROWS * width).max(1)).enumerate().map(|(task, d_sums)| {
            let mut part = vec![0.0; self.weights.len()];
            dispatch(
                #[inline(always)]
                || {
                    for (row, d) in d_sums.chunks_exact(width).enumerate() {
                        for (tap, source) in self.of(task * ROWS + row) {
                            let x = &x[source * width..][..width];
                            for ((sum, &x), &d) in part[tap * width..][..width].iter_mut().zip(x).zip(d) {
                                *sum = x.widen().mul_add(d, *sum);
                            }
                        }
                    }
                },
            );
            part
        });
        for part in parts.collect::<Vec<_>>() {
            for (tap, part) in part.chunks_exact(width.max(1)).enumerate() {
                part.iter().enumerate().for_each(|(column, part)| d_weight[column * self.count + tap] += part);
            }
        }
    }

    /// The rows that read each row.
    fn readers(&self) -> Readers {
        let rows = self.sources.len() / self.count.max(1);
        let mut starts = vec![0; rows + 1];
        for source in self.sources.iter().flatten() {
            starts[*source as usize + 1] += 1;
        }
        for row in 0..rows {
            starts[row + 1] += starts[row];
        }
        let (mut next, mut readers) = (starts.clone(), vec![(0, 0); starts[rows]]);
        for row in 0..rows {
            for (tap, source) in self.of(row) {
                readers[next[source]] = (row as u32, tap as u32);
                next[source] += 1;
            }
        }
        Readers { starts, readers }
    }
}

/// For each row the rows that read it and their taps, in the order of rows.
struct Readers {
    starts: Vec<usize>,
    readers: Vec<(u32, u32)>,
}

impl Readers {
    #[inline(always)]
    fn of(&self, row: usize) -> &[(u32, u32)] {
        &self.readers[self.starts[row]..self.starts[row + 1]]
    }
}

/// The row `lag` positions before row `index` of a segment, if its sequence is that long.
fn source_of(segment: &Segment, index: usize, lag: usize) -> Option<usize> {
    match index.checked_sub(lag) {
        Some(index) => Some(segment.rows.start + index),
        None => segment.context.end.checked_sub(lag - index).filter(|row| segment.context.contains(row)),
    }
}
