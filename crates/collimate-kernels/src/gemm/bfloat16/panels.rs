//! Products with weights in other forms, of which a panel at a time is unpacked.
#![allow(unsafe_code)] // threads write disjoint columns of one matrix, which slices cannot express

use std::ops::Range;

use rayon::prelude::*;

use super::driver::{Factors, Target, product};
use super::left::Left;
use super::pack::{Lanes, Order, Rounded, pack};
use super::product::Product;
use super::tile::SIDE;
use crate::element::Element;
use crate::gemm::packed::{PackedWeight, panels, unpacked};

/// The product with a weight, or with its transpose, each number rounded to bfloat16: a panel at a time is unpacked into the cache
/// and packed into tiles there.
///
/// # Panics
/// If the sizes do not fit each other or `out`.
pub(super) fn multiply<T: Element>(
    by: Product,
    out: &mut [T],
    a: &dyn Lanes<'_>,
    weight: &dyn PackedWeight,
    transposed: bool,
) {
    let (rows, columns) = (weight.rows(), weight.columns());
    let (depth, width) = if transposed { (columns, rows) } else { (rows, columns) };
    let parallel = by.begin(out, a, width, depth);
    if depth == 0 {
        return;
    }
    let a = Left::new(a, by.instructions, parallel);
    let target = Target::new(out, width, 0..width);
    let multiply = |scratch: &mut Vec<f32>, panel: Range<usize>| {
        let unpacked = unpacked(weight, panel.clone(), transposed, scratch).transpose();
        let b = pack(&unpacked.lanes::<Rounded>(), 0..panel.len().div_ceil(SIDE), Order::ByPair, false);
        let factors = [Factors { a: &a, b: &b }];
        // SAFETY: panels share no column, and each is one task's.
        let target = unsafe { target.columns(panel) };
        product(by.instructions, &target, by.scale, &factors, false);
    };
    match parallel {
        true => panels(width).into_par_iter().with_max_len(1).for_each_init(Vec::new, multiply),
        false => panels(width).into_iter().for_each(|panel| multiply(&mut Vec::new(), panel)),
    }
}
