//! Products of packed factors: divided among threads, and into blocks that stay in the cache.
#![allow(unsafe_code)] // threads write disjoint blocks of one matrix, which slices cannot express

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::instructions::{Instructions, Sum};
use super::tile::{PRODUCTS, Panels, SIDE, Sums, Tile};
use crate::simd::dispatch;

/// The most tiles along the inner dimension that are summed at once: such a panel takes 40 kB, most of a first-level cache. A
/// longer dimension is divided evenly; the sums of its parts are added in float32.
const DEPTH_TILES: usize = 20;

/// Columns of a task in blocks of 32: with 20 tiles along the inner dimension, its panels take 320 kB, which stay in a second-level
/// cache.
const TASK_COLUMNS: usize = 8;

/// Blocks of a task, at most.
const TASK_BLOCKS: usize = 64;

/// A packed factor: [tile of lanes][tile of depth].
#[derive(Clone, Copy)]
pub(super) struct Packed<'t> {
    pub(super) tiles: &'t [Tile],
    /// Tiles along the inner dimension.
    pub(super) depth_tiles: usize,
}

impl<'t> Packed<'t> {
    /// A part of the inner dimension of 32 lanes.
    fn panel(self, lanes: usize, depth: Range<usize>) -> &'t [Tile] {
        &self.tiles[lanes * self.depth_tiles..][depth]
    }
}

/// Where a product goes: [rows, columns], of which the rows start `stride` elements apart.
pub(super) struct Target<'o> {
    data: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
    borrow: PhantomData<&'o mut [f32]>,
}

// SAFETY: tasks write disjoint blocks only.
unsafe impl Sync for Target<'_> {}

impl<'o> Target<'o> {
    /// Some columns of `out`, which has `stride` of them.
    pub(super) fn new(out: &'o mut [f32], stride: usize, columns: Range<usize>) -> Self {
        assert!(columns.end <= stride, "columns of the product");
        let rows = out.len().checked_div(stride).unwrap_or(0);
        Self {
            data: out.as_mut_ptr().wrapping_add(columns.start),
            rows,
            columns: columns.len(),
            stride,
            borrow: PhantomData,
        }
    }

    /// Some of its columns, for a task.
    ///
    /// # Safety
    /// No other task accesses these columns.
    pub(super) unsafe fn columns(&self, columns: Range<usize>) -> Self {
        assert!(columns.end <= self.columns, "columns of the product");
        let data = self.data.wrapping_add(columns.start);
        Self { data, columns: columns.len(), ..*self }
    }

    /// Adds or stores a block of sums, as far as it is within.
    ///
    /// # Safety
    /// No other task accesses this block.
    unsafe fn add(&self, row: usize, column: usize, sums: &Sums, scale: Scale) {
        let columns = SIDE.min(self.columns - column);
        dispatch(
            #[inline(always)]
            || {
                for (row, sums) in (row..self.rows).zip(&sums.0) {
                    let start = self.data.wrapping_add(row * self.stride + column);
                    // SAFETY: the elements are within the matrix, which is borrowed; by the caller's promise nothing else
                    // accesses them.
                    scale.apply(unsafe { std::slice::from_raw_parts_mut(start, columns) }, sums);
                }
            },
        );
    }
}

/// What becomes of sums.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    pub(super) alpha: f32,
    /// Whether they are added to what is there.
    pub(super) accumulate: bool,
}

impl Scale {
    #[inline(always)]
    fn apply(self, to: &mut [f32], sums: &[f32; SIDE]) {
        // Rows of whole blocks have a length that the compiler knows.
        match (<&mut [f32; SIDE]>::try_from(&mut *to), self.accumulate) {
            (Ok(to), true) => to.iter_mut().zip(sums).for_each(|(to, &sum)| *to = self.alpha.mul_add(sum, *to)),
            (Ok(to), false) => to.iter_mut().zip(sums).for_each(|(to, &sum)| *to = self.alpha * sum),
            (Err(_), true) => to.iter_mut().zip(sums).for_each(|(to, &sum)| *to = self.alpha.mul_add(sum, *to)),
            (Err(_), false) => to.iter_mut().zip(sums).for_each(|(to, &sum)| *to = self.alpha * sum),
        }
    }
}

/// `target = alpha · Σ a · b` over pairs of factors, added to it if so scaled. The order of a sum depends on the inner dimension
/// only.
pub(super) fn product(
    instructions: Instructions,
    target: &Target<'_>,
    scale: Scale,
    factors: &[[Packed<'_>; 2]],
    parallel: bool,
) {
    let (rows, columns) = (target.rows.div_ceil(SIDE), target.columns.div_ceil(SIDE));
    if rows * columns == 0 {
        return;
    }
    let threads = if parallel { rayon::current_num_threads() } else { 1 };
    let blocks = (rows * columns).div_ceil(4 * threads).clamp(1, TASK_BLOCKS);
    let task_columns = blocks.min(TASK_COLUMNS).min(columns);
    let task_rows = blocks / task_columns;
    let across = columns.div_ceil(task_columns);
    let task = |index: usize| {
        let part = |index: usize, size: usize, all: usize| index * size..((index + 1) * size).min(all);
        let task = Task {
            target,
            scale,
            factors,
            rows: part(index / across, task_rows, rows),
            columns: part(index % across, task_columns, columns),
        };
        // SAFETY: tasks have disjoint blocks.
        instructions.run(|sum| unsafe { task.run(sum) });
    };
    let tasks = 0..across * rows.div_ceil(task_rows);
    match parallel {
        true => tasks.into_par_iter().with_max_len(1).for_each(task),
        false => tasks.for_each(task),
    }
}

/// Some blocks of a product.
struct Task<'t> {
    target: &'t Target<'t>,
    scale: Scale,
    factors: &'t [[Packed<'t>; 2]],
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Task<'_> {
    /// # Safety
    /// No other task has any of these blocks.
    unsafe fn run(&self, sum: &mut Sum<'_>) {
        let mut sums = Sums([[0.0; SIDE]; SIDE]);
        let mut panels = [Panels { a: &[], b: &[] }; PRODUCTS];
        let panels = &mut panels[..self.factors.len()];
        // The halves of split numbers share the cache.
        let most = if self.factors.len() > 1 { DEPTH_TILES / 2 } else { DEPTH_TILES };
        for depth in parts(self.factors[0][0].depth_tiles, most) {
            let scale = Scale { accumulate: self.scale.accumulate || depth.start > 0, ..self.scale };
            for row in self.rows.clone() {
                for column in self.columns.clone() {
                    for (panels, [a, b]) in panels.iter_mut().zip(self.factors) {
                        *panels = Panels { a: a.panel(row, depth.clone()), b: b.panel(column, depth.clone()) };
                    }
                    sum(panels, SIDE.min(self.target.rows - row * SIDE), &mut sums);
                    // SAFETY: by the caller's promise.
                    unsafe { self.target.add(row * SIDE, column * SIDE, &sums, scale) };
                }
            }
        }
    }
}

/// The inner dimension in even parts of at most so many tiles.
fn parts(tiles: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let size = tiles.div_ceil(tiles.div_ceil(most).max(1)).max(1);
    (0..tiles).step_by(size).map(move |start| start..(start + size).min(tiles))
}
