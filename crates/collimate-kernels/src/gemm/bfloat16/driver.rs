//! Products of packed factors: divided among threads, and into blocks that stay in the cache.
#![allow(unsafe_code)] // threads write disjoint blocks of one matrix, which slices cannot express

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::instructions::{Instructions, Sum};
use super::left::Left;
use super::tile::{PRODUCTS, Panels, SIDE, Sums, Tile};
use crate::element::Element;
use crate::simd::dispatch;

/// The most tiles along the inner dimension that are summed at once: such a panel takes 40 kB, most of a first-level cache. A
/// longer dimension is divided evenly; the sums of its parts are added in float32, before they are scaled and rounded.
const DEPTH_TILES: usize = 20;

/// Columns of a task in blocks of 32: with 20 tiles along the inner dimension, its panels take 320 kB, which stay in a second-level
/// cache.
const TASK_COLUMNS: usize = 8;

/// Blocks of a task, at most.
const TASK_BLOCKS: usize = 64;

/// The factors of a product.
#[derive(Clone, Copy)]
pub(super) struct Factors<'t> {
    pub(super) a: &'t Left<'t>,
    /// [tile of columns][tile of depth].
    pub(super) b: &'t [Tile],
}

impl<'t> Factors<'t> {
    /// A part of the inner dimension of a block of 32 by 32.
    fn panels(self, [row, column]: [usize; 2], depth: Range<usize>) -> Panels<'t> {
        let b = &self.b[column * self.a.depth_tiles()..][depth.clone()];
        Panels { a: self.a.panel(row, depth), b }
    }
}

/// Where a product goes: [rows, columns], of which the rows start `stride` elements apart.
pub(super) struct Target<'o, T> {
    data: *mut T,
    rows: usize,
    columns: usize,
    stride: usize,
    borrow: PhantomData<&'o mut [T]>,
}

// SAFETY: tasks write disjoint blocks only.
unsafe impl<T: Send> Sync for Target<'_, T> {}

impl<'o, T: Element> Target<'o, T> {
    /// Some columns of `out`, which has `stride` of them.
    pub(super) fn new(out: &'o mut [T], stride: usize, columns: Range<usize>) -> Self {
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

    /// Adds or stores the sums of a block of 32 by 32, as far as it is within.
    ///
    /// # Safety
    /// No other task accesses this block.
    unsafe fn add(&self, [row, column]: [usize; 2], sums: &Sums, scale: Scale) {
        let (row, column) = (row * SIDE, column * SIDE);
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
    /// In float32, and rounded once.
    #[inline(always)]
    fn apply<T: Element>(self, to: &mut [T], sums: &[f32; SIDE]) {
        // Rows of whole blocks have a length that the compiler knows.
        match (<&mut [T; SIDE]>::try_from(&mut *to), self.accumulate) {
            (Ok(to), true) => to.iter_mut().zip(sums).for_each(|(to, &sum)| *to = self.added(*to, sum)),
            (Ok(to), false) => to.iter_mut().zip(sums).for_each(|(to, &sum)| *to = T::narrow(self.alpha * sum)),
            (Err(_), true) => to.iter_mut().zip(sums).for_each(|(to, &sum)| *to = self.added(*to, sum)),
            (Err(_), false) => to.iter_mut().zip(sums).for_each(|(to, &sum)| *to = T::narrow(self.alpha * sum)),
        }
    }

    #[inline(always)]
    fn added<T: Element>(self, to: T, sum: f32) -> T {
        T::narrow(self.alpha.mul_add(sum, to.widen()))
    }
}

/// `target = alpha · Σ a · b` over pairs of factors, added to it if so scaled. The order of a sum depends on the inner dimension
/// only.
pub(super) fn product<T: Element>(
    instructions: Instructions,
    target: &Target<'_, T>,
    scale: Scale,
    factors: &[Factors<'_>],
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
        // SAFETY: tasks have disjoint blocks, and a panel 32 rows.
        unsafe { instructions.run(|sum| task.run(sum)) };
    };
    let tasks = 0..across * rows.div_ceil(task_rows);
    match parallel {
        true => tasks.into_par_iter().with_max_len(1).for_each(task),
        false => tasks.for_each(task),
    }
}

/// Some blocks of a product.
struct Task<'t, T> {
    target: &'t Target<'t, T>,
    scale: Scale,
    factors: &'t [Factors<'t>],
    rows: Range<usize>,
    columns: Range<usize>,
}

impl<T: Element> Task<'_, T> {
    /// # Safety
    /// No other task has any of these blocks.
    unsafe fn run(&self, sum: &mut Sum<'_>) {
        // The halves of split numbers share the cache.
        let most = if self.factors.len() > 1 { DEPTH_TILES / 2 } else { DEPTH_TILES };
        let depth_tiles = self.factors[0].a.depth_tiles();
        let blocks = || self.rows.clone().flat_map(|row| self.columns.clone().map(move |column| [row, column]));
        if depth_tiles <= most {
            let mut sums = Sums::ZERO;
            for block in blocks() {
                self.sum(block, 0..depth_tiles, &mut sums, sum);
                // SAFETY: by the caller's promise.
                unsafe { self.target.add(block, &sums, self.scale) };
            }
            return;
        }
        let mut totals = vec![Sums::ZERO; self.rows.len() * self.columns.len()];
        let mut sums = Sums::ZERO;
        for depth in parts(depth_tiles, most) {
            for (block, totals) in blocks().zip(&mut totals) {
                self.sum(block, depth.clone(), &mut sums, sum);
                add_to(totals, &sums);
            }
        }
        for (block, totals) in blocks().zip(&totals) {
            // SAFETY: by the caller's promise.
            unsafe { self.target.add(block, totals, self.scale) };
        }
    }

    /// The sums of a block over a part of the inner dimension.
    fn sum(&self, block: [usize; 2], depth: Range<usize>, sums: &mut Sums, sum: &mut Sum<'_>) {
        let mut panels = [self.factors[0].panels(block, depth.clone()); PRODUCTS];
        for (panels, factors) in panels.iter_mut().zip(self.factors).skip(1) {
            *panels = factors.panels(block, depth.clone());
        }
        sum(&panels[..self.factors.len()], SIDE.min(self.target.rows - block[0] * SIDE), sums);
    }
}

fn add_to(totals: &mut Sums, sums: &Sums) {
    let (totals, sums) = (totals.0.as_flattened_mut(), sums.0.as_flattened());
    dispatch(
        #[inline(always)]
        || totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum),
    );
}

/// The inner dimension in even parts of at most so many tiles.
fn parts(tiles: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let size = tiles.div_ceil(tiles.div_ceil(most).max(1)).max(1);
    (0..tiles).step_by(size).map(move |start| start..(start + size).min(tiles))
}
