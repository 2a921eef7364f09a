//! A product of factors that are packed for it.
#![allow(unsafe_code)] // threads write disjoint columns of one matrix, which slices cannot express

use std::ops::Range;

use rayon::prelude::*;

use super::driver::{Packed, Scale, Target, product};
use super::instructions::Instructions;
use super::pack::{Lanes, Order, Rounded, pack};
use super::tile::{DEPTH, SIDE, Tile};
use crate::gemm::SMALL;
use crate::gemm::packed::{PackedWeight, panels, unpacked};

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
    pub(super) fn of_lanes(&self, out: &mut [f32], a: &[&dyn Lanes], b: &[&dyn Lanes], pairs: &[[usize; 2]]) {
        let (columns, depth) = (b[0].lanes(), b[0].depth());
        let parallel = self.begin(out, a[0], columns, depth);
        let depth_tiles = depth.div_ceil(DEPTH);
        if depth_tiles == 0 {
            return;
        }
        let all = |factor: &&dyn Lanes| pack(*factor, 0..factor.lanes().div_ceil(SIDE), Order::ByLane, parallel);
        let a: Vec<Vec<Tile>> = a.iter().map(all).collect();
        for lanes in chunks(columns.div_ceil(SIDE), depth_tiles) {
            let part = |factor: &&dyn Lanes| pack(*factor, lanes.clone(), Order::ByPair, parallel);
            let b: Vec<Vec<Tile>> = b.iter().map(part).collect();
            let packed = |tiles| Packed { tiles, depth_tiles };
            let factors: Vec<_> = pairs.iter().map(|&[i, j]| [packed(&a[i]), packed(&b[j])]).collect();
            let target = Target::new(out, columns, lanes.start * SIDE..(lanes.end * SIDE).min(columns));
            product(self.instructions, &target, self.scale, &factors, parallel);
        }
    }

    /// The product with a packed factor of `columns` lanes and the inner dimension `depth`.
    ///
    /// # Panics
    /// If the sizes do not fit each other or `out`.
    pub(super) fn of_packed(&self, out: &mut [f32], a: &dyn Lanes, b: &[Tile], columns: usize, depth: usize) {
        let parallel = self.begin(out, a, columns, depth);
        let depth_tiles = depth.div_ceil(DEPTH);
        if depth_tiles == 0 {
            return;
        }
        let a = pack(a, 0..a.lanes().div_ceil(SIDE), Order::ByLane, parallel);
        let factors = [[&a, b].map(|tiles| Packed { tiles, depth_tiles })];
        let target = Target::new(out, columns, 0..columns);
        product(self.instructions, &target, self.scale, &factors, parallel);
    }

    /// The product with a weight in another form, or with its transpose, each number rounded: a panel at a time is unpacked into
    /// the cache and packed into tiles there.
    ///
    /// # Panics
    /// If the sizes do not fit each other or `out`.
    pub(super) fn of_unpacked(&self, out: &mut [f32], a: &dyn Lanes, weight: &dyn PackedWeight, transposed: bool) {
        let (rows, columns) = (weight.rows(), weight.columns());
        let (depth, width) = if transposed { (columns, rows) } else { (rows, columns) };
        let parallel = self.begin(out, a, width, depth);
        let depth_tiles = depth.div_ceil(DEPTH);
        if depth_tiles == 0 {
            return;
        }
        let a = pack(a, 0..a.lanes().div_ceil(SIDE), Order::ByLane, parallel);
        let target = Target::new(out, width, 0..width);
        let multiply = |scratch: &mut Vec<f32>, panel: Range<usize>| {
            let unpacked = unpacked(weight, panel.clone(), transposed, scratch).transpose();
            let b = pack(&unpacked.lanes::<Rounded>(), 0..panel.len().div_ceil(SIDE), Order::ByPair, false);
            let factors = [[&a, &b].map(|tiles| Packed { tiles, depth_tiles })];
            // SAFETY: panels share no column, and each is one task's.
            let target = unsafe { target.columns(panel) };
            product(self.instructions, &target, self.scale, &factors, false);
        };
        match parallel {
            true => panels(width).into_par_iter().with_max_len(1).for_each_init(Vec::new, multiply),
            false => panels(width).into_iter().for_each(|panel| multiply(&mut Vec::new(), panel)),
        }
    }

    /// Checks the sizes, and stores the empty sum if there is nothing to add; whether the product is worth more than a thread.
    fn begin(&self, out: &mut [f32], a: &dyn Lanes, columns: usize, depth: usize) -> bool {
        assert_eq!(a.depth(), depth, "the inner sizes of the factors");
        assert_eq!(out.len(), a.lanes() * columns, "the size of the product");
        if depth == 0 && !self.scale.accumulate {
            out.fill(0.0);
        }
        a.lanes() * columns * depth > SMALL
    }
}

/// Divides tiles of lanes into chunks.
fn chunks(lanes: usize, depth_tiles: usize) -> impl Iterator<Item = Range<usize>> {
    let size = (CHUNK / depth_tiles).max(1);
    (0..lanes).step_by(size).map(move |start| start..(start + size).min(lanes))
}
