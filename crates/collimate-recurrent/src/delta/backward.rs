//! The gated delta rule backward.

use std::ops::Range;

use rayon::prelude::*;

use super::chunk::Chunk;
use super::gradient::Gradient;
use super::rows::{Head, Tree, chunks, places, trees};
use super::{DeltaInputs, DeltaShape};
use collimate_kernels::{Element, Segment};

/// Gradients of [`DeltaInputs`], of the same shapes.
#[derive(Debug, Clone)]
pub struct DeltaGradients<T = f32> {
    /// Of queries, keys and values.
    pub qkv: Vec<T>,
    /// Of the logarithms of decays.
    pub decay: Vec<f32>,
    /// Of β.
    pub beta: Vec<f32>,
}

/// The gradients of the inputs of [`delta_rule`](crate::delta_rule), given that of its output.
///
/// States are computed again, a head at a time.
pub fn delta_rule_backward<T: Element>(
    shape: &DeltaShape,
    segments: &[Segment],
    inputs: DeltaInputs<'_, T>,
    d_out: &[T],
) -> DeltaGradients<T> {
    let trees = trees(segments);
    let heads = Head::all(shape, inputs, &trees);
    let parts: Vec<Part> =
        heads.par_iter().map_init(Task::default, |task, head| task.run(shape, head, d_out)).collect();
    gather(shape, &trees, &parts)
}

/// One head's gradients over the rows of a tree.
#[derive(Default)]
struct Part {
    /// [rows, key_dim].
    q: Vec<f32>,
    k: Vec<f32>,
    /// [rows, value_dim].
    v: Vec<f32>,
    /// \[rows\].
    decay: Vec<f32>,
    beta: Vec<f32>,
}

/// A task's buffers.
#[derive(Default)]
struct Task {
    chunk: Chunk,
    gradient: Gradient,
    /// The gradient of a chunk's outputs, [C, value_dim].
    d_out: Vec<f32>,
    part: Part,
}

impl Task {
    fn run<T: Element>(&mut self, shape: &DeltaShape, head: &Head<'_, T>, d_out: &[T]) -> Part {
        let rows = head.tree.num_rows();
        let (keys, values) = (rows * shape.key_dim, rows * shape.value_dim);
        self.part = Part {
            q: vec![0.0; keys],
            k: vec![0.0; keys],
            v: vec![0.0; values],
            decay: vec![0.0; rows],
            beta: vec![0.0; rows],
        };
        let first = head.tree.first;
        let mut state = head.empty_state();
        let starts = self.states(head, first, &mut state);
        let mut d_fork = head.empty_state();
        let mut done = first.rows.len();
        for fork in &head.tree.forks {
            let starts = self.states(head, fork, &mut state.clone());
            let mut d_state = head.empty_state();
            self.segment(head, Place { segment: fork, done }, &starts, &mut d_state, d_out);
            d_fork.iter_mut().zip(&d_state).for_each(|(sum, d)| *sum += d);
            done += fork.rows.len();
        }
        self.segment(head, Place { segment: first, done: 0 }, &starts, &mut d_fork, d_out);
        std::mem::take(&mut self.part)
    }

    /// The state at the start of each chunk of a segment; takes `state` to the segment's end.
    fn states<T: Element>(&mut self, head: &Head<'_, T>, segment: &Segment, state: &mut [f32]) -> Vec<Vec<f32>> {
        let advance = |rows| {
            let start = state.to_vec();
            self.chunk.load(head, rows);
            self.chunk.forward(state, None);
            start
        };
        chunks(segment).map(advance).collect()
    }

    /// Takes the gradient of the state from a segment's end to its start.
    fn segment<T: Element>(
        &mut self,
        head: &Head<'_, T>,
        place: Place<'_>,
        starts: &[Vec<f32>],
        d_state: &mut [f32],
        d_out: &[T],
    ) {
        let (width, dim) = (head.shape.values_width(), head.shape.value_dim);
        let column = head.index * dim;
        for (rows, start) in chunks(place.segment).zip(starts).rev() {
            let at = place.done + rows.start - place.segment.rows.start;
            self.d_out.clear();
            for row in rows.clone() {
                self.d_out.extend(d_out[row * width + column..][..dim].iter().map(|d| d.widen()));
            }
            self.chunk.load(head, rows.clone());
            self.gradient.backward(&mut self.chunk, start, d_state, &self.d_out);
            self.part.keep(head.shape, at..at + rows.len(), &self.gradient);
        }
    }
}

/// Where a segment's gradients stand in a part.
#[derive(Clone, Copy)]
struct Place<'a> {
    segment: &'a Segment,
    /// Rows of the part before it.
    done: usize,
}

impl Part {
    fn keep(&mut self, shape: &DeltaShape, rows: Range<usize>, gradient: &Gradient) {
        let copy = |to: &mut [f32], from: &[f32], dim: usize| {
            to[rows.start * dim..rows.end * dim].copy_from_slice(from);
        };
        copy(&mut self.q, &gradient.q, shape.key_dim);
        copy(&mut self.k, &gradient.k, shape.key_dim);
        copy(&mut self.v, &gradient.v, shape.value_dim);
        copy(&mut self.decay, &gradient.decay, 1);
        copy(&mut self.beta, &gradient.beta, 1);
    }
}

/// The gradients of all rows; those of a key head are summed over the value heads that share it.
fn gather<T: Element>(shape: &DeltaShape, trees: &[Tree<'_>], parts: &[Part]) -> DeltaGradients<T> {
    let places = places(trees);
    let heads = shape.value_heads;
    let part = |tree: usize, head: usize| &parts[tree * heads + head];
    let numbers = |of: fn(&Part) -> &[f32]| -> Vec<f32> {
        let row = |&[tree, place]: &[usize; 2]| (0..heads).map(move |head| of(part(tree, head))[place]);
        places.iter().flat_map(row).collect()
    };
    let mut qkv = vec![T::default(); places.len() * shape.width()];
    qkv.par_chunks_mut(shape.width()).zip(&places).for_each_init(
        || vec![0.0; shape.width()],
        |sums, (row, &[tree, place])| {
            sums.fill(0.0);
            for head in 0..heads {
                let Part { q, k, v, .. } = part(tree, head);
                for (columns, from) in shape.columns(head).into_iter().zip([q, k, v]) {
                    let from = &from[place * columns.len()..][..columns.len()];
                    sums[columns].iter_mut().zip(from).for_each(|(sum, from)| *sum += from);
                }
            }
            row.iter_mut().zip(&*sums).for_each(|(to, &sum)| *to = T::narrow(sum));
        },
    );
    DeltaGradients { qkv, decay: numbers(|part| &part.decay), beta: numbers(|part| &part.beta) }
}
