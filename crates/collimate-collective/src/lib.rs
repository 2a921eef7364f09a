//! How the processes of one run talk to each other: bytes and numbers between ranks.
//!
//! A run of several processes is a world of `size` ranks, numbered from 0. Every rank makes the same calls in the same
//! order. What a library of collectives adds up depends on sizes, algorithm and network, so nothing is added up there:
//! numbers are exchanged, and [`reduce_scatter`] adds them in the order of ranks.
//!
//! Read first: [`Collective`]. Must not know: tensors, models, files.

mod agree;
mod error;
#[cfg(feature = "mpi")]
mod mpi_world;
mod place;
mod reduce;
mod solo;
mod start;
mod threads;

use std::ops::Range;
use std::sync::mpsc::{Receiver, channel};

pub use agree::agree;
pub use error::CollectiveError;
#[cfg(feature = "mpi")]
pub use mpi_world::Mpi;
pub use place::Place;
pub use reduce::reduce_scatter;
pub use solo::Solo;
pub use start::start;
pub use threads::Threads;

/// The ranks of one run. Each call but the first four is made by every rank, in the same order.
pub trait Collective: Send + Sync {
    /// This process's number, from 0.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn size(&self) -> usize;

    /// This process's number among the ranks of its machine, from 0.
    fn local_rank(&self) -> usize;

    /// How many ranks its machine has; they share its cores and its memory.
    fn local_size(&self) -> usize;

    /// Begins to gather every rank's bytes, which may differ in length; they are there when [`Pending::finish`] returns.
    ///
    /// # Errors
    ///
    /// If another rank has ended.
    fn start_gather(&self, bytes: Vec<u8>) -> Result<Pending, CollectiveError>;

    /// Every rank's bytes, in the order of ranks.
    ///
    /// # Errors
    ///
    /// If another rank has ended.
    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CollectiveError> {
        self.start_gather(bytes.to_vec())?.finish()
    }

    /// Replaces `bytes` by those of `root`.
    ///
    /// # Errors
    ///
    /// If another rank has ended.
    fn broadcast(&self, bytes: &mut Vec<u8>, root: usize) -> Result<(), CollectiveError>;

    /// Sends `numbers[ranges[r]]` to each rank r and returns what each rank sent here, in the order of ranks.
    ///
    /// # Errors
    ///
    /// If there is not one range for each rank, if one is not within `numbers`, or if another rank has ended.
    fn all_to_all(&self, numbers: &[f32], ranges: &[Range<usize>]) -> Result<Vec<Vec<f32>>, CollectiveError>;

    /// Waits until every rank is here.
    ///
    /// # Errors
    ///
    /// If another rank has ended.
    fn barrier(&self) -> Result<(), CollectiveError>;

    /// Ends every rank, after a message that names this one and the cause.
    fn abort(&self, cause: &str) -> !;
}

/// Bytes that are on their way.
#[derive(Debug)]
pub struct Pending(Receiver<Result<Vec<Vec<u8>>, CollectiveError>>);

impl Pending {
    /// Bytes that are here already.
    fn arrived(all: Vec<Vec<u8>>) -> Result<Self, CollectiveError> {
        let (sender, receiver) = channel();
        sender.send(Ok(all)).map_err(|_| CollectiveError::Closed)?;
        Ok(Self(receiver))
    }

    /// Waits for the bytes of every rank, in the order of ranks.
    ///
    /// # Errors
    ///
    /// If another rank has ended.
    pub fn finish(self) -> Result<Vec<Vec<u8>>, CollectiveError> {
        self.0.recv().unwrap_or(Err(CollectiveError::Closed))
    }
}

/// Checks that there is a rank `rank` among `size`.
fn check_rank(rank: usize, size: usize) -> Result<(), CollectiveError> {
    if rank < size { Ok(()) } else { Err(CollectiveError::NoRank { rank, size }) }
}

/// Checks that there is a range within `length` for each of `size` ranks.
fn check_ranges(length: usize, ranges: &[Range<usize>], size: usize) -> Result<(), CollectiveError> {
    if ranges.len() != size {
        return Err(CollectiveError::Ranges { ranges: ranges.len(), size });
    }
    match ranges.iter().find(|range| range.start > range.end || range.end > length) {
        Some(range) => Err(CollectiveError::Outside { start: range.start, end: range.end, length }),
        None => Ok(()),
    }
}
