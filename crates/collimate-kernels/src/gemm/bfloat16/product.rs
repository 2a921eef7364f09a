//! A product of factors that are packed for it.

use std::ops::Range;

use super::driver::{Factors, Scale, Target, product};
use super::instructions::Instructions;
use super::left::Left;
use super::pack::{Lanes, Order, pack};
use super::tile::{DEPTH, SIDE, Tile};
use crate::element::Element;
use crate::gemm::SMALL;

/// Tiles of one factor that are packed at once: 16 MB.
const CHUNK: usize = 1 << 13;

/// `out = alpha · a · b`, or added to `out`, with these instructions.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub(super) instructions: Instructions,
    pub(super) scale: Scale,
}

impl Product {
    /// The sum of products of some of `a` with some of `b`, by index; the lanes of `b` are its columns. `b` is packed in chunks of
    /// columns of at most 16 MB.
    ///
    /// # Panics
    /// If the sizes do not fit each other or `out`.
    pub(super) fn of_lanes<T: Element>(
        &self,
        out: &mut [T],
        a: &[&dyn Lanes<'_>],
        b: &[&dyn Lanes<'_>],
        pairs: &[[usize; 2]],
    ) {
        let (columns, depth) = (b[0].lanes(), b[0].depth());
        let parallel = self.begin(out, a[0], columns, depth);
        let depth_tiles = depth.div_ceil(DEPTH);
        if depth_tiles == 0 {
            return;
        }
        let a: Vec<Left<'_>> = a.iter().map(|factor| Left::new(*factor, self.instructions, parallel)).collect();
        for lanes in chunks(columns.div_ceil(SIDE), depth_tiles) {
            let part = |factor: &&dyn Lanes<'_>| pack(*factor, lanes.clone(), Order::ByPair, parallel);
            let b: Vec<Vec<Tile>> = b.iter().map(part).collect();
            let factors: Vec<_> = pairs.iter().map(|&[i, j]| Factors { a: &a[i], b: &b[j] }).collect();
            let target = Target::new(out, columns, lanes.start * SIDE..(lanes.end * SIDE).min(columns));
            product(self.instructions, &target, self.scale, &factors, parallel);
        }
    }

    /// The product with a packed factor of `columns` lanes and the inner dimension `depth`.
    ///
    /// # Panics
    /// If the sizes do not fit each other or `out`.
    pub(super) fn of_packed<T: Element>(
        &self,
        out: &mut [T],
        a: &dyn Lanes<'_>,
        b: &[Tile],
        columns: usize,
        depth: usize,
    ) {
        let parallel = self.begin(out, a, columns, depth);
        if depth == 0 {
            return;
        }
        let factors = [Factors { a: &Left::new(a, self.instructions, parallel), b }];
        let target = Target::new(out, columns, 0..columns);
        product(self.instructions, &target, self.scale, &factors, parallel);
    }

    /// Checks the sizes, and stores the empty sum if there is nothing to add; whether the product is worth more than a thread.
    pub(super) fn begin<T: Element>(&self, out: &mut [T], a: &dyn Lanes<'_>, columns: usize, depth: usize) -> bool {
        assert_eq!(a.depth(), depth, "the inner sizes of the factors");
        assert_eq!(out.len(), a.lanes() * columns, "the size of the product");
        if depth == 0 && !self.scale.accumulate {
            out.fill(T::default());
        }
        a.lanes() * columns * depth > SMALL
    }
}

/// Tiles of the largest chunk of so many tiles of lanes.
pub(super) fn chunk(lanes: usize, depth_tiles: usize) -> usize {
    depth_tiles * lanes.min(chunk_lanes(depth_tiles))
}

/// Tiles of lanes of a chunk.
fn chunk_lanes(depth_tiles: usize) -> usize {
    (CHUNK / depth_tiles.max(1)).max(1)
}

/// Divides tiles of lanes into chunks.
fn chunks(lanes: usize, depth_tiles: usize) -> impl Iterator<Item = Range<usize>> {
    let size = chunk_lanes(depth_tiles);
    (0..lanes).step_by(size).map(move |start| start..(start + size).min(lanes))
}
