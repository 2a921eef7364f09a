//! A run of one process.

use std::ops::Range;

use crate::{Collective, CollectiveError, Pending, check_ranges, check_rank};

/// The only rank of a run of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Solo;

impl Collective for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn local_rank(&self) -> usize {
        0
    }

    fn local_size(&self) -> usize {
        1
    }

    fn start_gather(&self, bytes: Vec<u8>) -> Result<Pending, CollectiveError> {
        Pending::arrived(vec![bytes])
    }

    fn broadcast(&self, _bytes: &mut Vec<u8>, root: usize) -> Result<(), CollectiveError> {
        check_rank(root, 1)
    }

    fn all_to_all(&self, numbers: &[f32], ranges: &[Range<usize>]) -> Result<Vec<Vec<f32>>, CollectiveError> {
        check_ranges(numbers.len(), ranges, 1)?;
        Ok(vec![numbers[ranges[0].clone()].to_vec()])
    }

    fn barrier(&self) -> Result<(), CollectiveError> {
        Ok(())
    }

    fn abort(&self, cause: &str) -> ! {
        eprintln!("error: {cause}");
        std::process::exit(1)
    }
}
