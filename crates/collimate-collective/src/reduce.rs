//! Sums over ranks whose order is always the same.

use std::ops::Range;

use crate::{Collective, CollectiveError};

/// Adds up the numbers of all ranks in `ranges[rank]` and returns this rank's sums.
///
/// Rank 0's numbers come first, then rank 1's are added, and so on, whatever the network: so the same number of ranks gives
/// the same bits, and the bits of a sum do not depend on which rank holds it.
///
/// # Errors
///
/// If the ranges do not fit, differ between ranks, or another rank has ended.
pub fn reduce_scatter(
    world: &dyn Collective,
    numbers: &[f32],
    ranges: &[Range<usize>],
) -> Result<Vec<f32>, CollectiveError> {
    let mut parts = world.all_to_all(numbers, ranges)?.into_iter();
    let mut sums = parts.next().ok_or(CollectiveError::Closed)?;
    let expected = ranges[world.rank()].len();
    if sums.len() != expected {
        return Err(CollectiveError::Length { rank: 0, found: sums.len(), expected });
    }
    for (before, part) in parts.enumerate() {
        if part.len() != expected {
            return Err(CollectiveError::Length { rank: before + 1, found: part.len(), expected });
        }
        for (sum, number) in sums.iter_mut().zip(&part) {
            *sum += number;
        }
    }
    Ok(sums)
}
