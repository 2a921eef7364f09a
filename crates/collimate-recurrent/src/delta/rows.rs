//! Which rows a task computes, and where its numbers stand in a pack.

use std::ops::Range;

use rayon::prelude::*;

use super::{CHUNK, DeltaInputs, DeltaShape};
use collimate_kernels::{Element, Segment};

/// A segment that begins with an empty state, and those that go on from its final one.
pub(super) struct Tree<'a> {
    pub(super) first: &'a Segment,
    pub(super) forks: Vec<&'a Segment>,
}

impl Tree<'_> {
    pub(super) fn num_rows(&self) -> usize {
        self.segments().map(|segment| segment.rows.len()).sum()
    }

    fn segments(&self) -> impl Iterator<Item = &Segment> {
        std::iter::once(self.first).chain(self.forks.iter().copied())
    }

    /// Its rows in the pack, in the order in which a task computes them.
    fn rows(&self) -> impl Iterator<Item = usize> {
        self.segments().flat_map(|segment| segment.rows.clone())
    }
}

/// The trees of a pack.
pub(super) fn trees(segments: &[Segment]) -> Vec<Tree<'_>> {
    let mut trees: Vec<Tree<'_>> = Vec::new();
    for segment in segments {
        if segment.context.is_empty() {
            trees.push(Tree { first: segment, forks: Vec::new() });
            continue;
        }
        let tree = trees.iter_mut().rev().find(|tree| tree.first.rows == segment.context);
        let Some(tree) = tree else { panic!("a context is the rows of a segment before it") };
        tree.forks.push(segment);
    }
    trees
}

/// The chunks of a segment.
pub(super) fn chunks(segment: &Segment) -> impl DoubleEndedIterator<Item = Range<usize>> + ExactSizeIterator {
    let rows = segment.rows.clone();
    (0..rows.len().div_ceil(CHUNK)).map(move |index| {
        let start = rows.start + index * CHUNK;
        start..(start + CHUNK).min(rows.end)
    })
}

/// What a task computes: one head of one tree.
pub(super) struct Head<'a, T> {
    pub(super) shape: &'a DeltaShape,
    pub(super) inputs: DeltaInputs<'a, T>,
    pub(super) tree: &'a Tree<'a>,
    /// Index of the value head.
    pub(super) index: usize,
}

impl<'a, T: Element> Head<'a, T> {
    /// The heads of all trees, tree by tree.
    pub(super) fn all(shape: &'a DeltaShape, inputs: DeltaInputs<'a, T>, trees: &'a [Tree<'a>]) -> Vec<Self> {
        let rows: usize = trees.iter().map(Tree::num_rows).sum();
        assert!(shape.value_heads.is_multiple_of(shape.key_heads), "value heads share key heads");
        assert_eq!(inputs.qkv.len(), rows * shape.width(), "a row of queries, keys and values for each row");
        assert!(
            [inputs.decay, inputs.beta].iter().all(|x| x.len() == rows * shape.value_heads),
            "a number for each head"
        );
        let of = |tree| (0..shape.value_heads).map(move |index| Self { shape, inputs, tree, index });
        trees.iter().flat_map(of).collect()
    }

    pub(super) fn empty_state(&self) -> Vec<f32> {
        vec![0.0; self.shape.key_dim * self.shape.value_dim]
    }
}

impl DeltaShape {
    /// Columns of a value head's queries, keys and values among those of all.
    pub(super) fn columns(&self, head: usize) -> [Range<usize>; 3] {
        let key_head = head / (self.value_heads / self.key_heads);
        let (query, key) = (key_head * self.key_dim, self.keys_width() + key_head * self.key_dim);
        let value = 2 * self.keys_width() + head * self.value_dim;
        [query..query + self.key_dim, key..key + self.key_dim, value..value + self.value_dim]
    }
}

/// For each row of the pack, its tree and its place in the tree.
pub(super) fn places(trees: &[Tree<'_>]) -> Vec<[usize; 2]> {
    let mut places = vec![[0; 2]; trees.iter().map(Tree::num_rows).sum()];
    for (index, tree) in trees.iter().enumerate() {
        tree.rows().enumerate().for_each(|(place, row)| places[row] = [index, place]);
    }
    places
}

/// Writes the outputs of all heads, [rows of the tree, value_dim] each, to the rows of the pack.
pub(super) fn scatter<T: Element>(shape: &DeltaShape, trees: &[Tree<'_>], outputs: &[Vec<f32>], out: &mut [T]) {
    let (places, dim) = (places(trees), shape.value_dim);
    assert_eq!(out.len(), places.len() * shape.values_width(), "a row of outputs for each row");
    out.par_chunks_mut(shape.values_width().max(1)).zip(&places).for_each(|(row, &[tree, place])| {
        for (head, to) in row.chunks_exact_mut(dim).enumerate() {
            let from = &outputs[tree * shape.value_heads + head][place * dim..][..dim];
            to.iter_mut().zip(from).for_each(|(to, &from)| *to = T::narrow(from));
        }
    });
}
