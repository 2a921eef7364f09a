//! How the processes of one run talk to each other: bytes and numbers between ranks.
//!
//! A run of several processes is a world of `size` ranks, numbered from 0. Every rank makes the same calls in the same
//! order. What a library of collectives adds up depends on sizes, algorithm and network, so nothing is added up there:
//! numbers are exchanged, and [`reduce_scatter`] adds them in the order of ranks.
//!
//! Read first: [`Collective`]. Must not know: tensors, models, files.

mod agree;
mod deal;
mod error;
mod peers;
mod place;
mod ranks;
mod reduce;
mod solo;
mod start;
mod stop_flag;
mod threads;

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

pub use agree::{agree, agree_on, share};
pub use deal::deal;
pub use error::CollectiveError;
pub use place::Place;
pub use ranks::{OwnNumbers, Ranks, SharedNumbers};
pub use reduce::reduce_scatter;
pub use solo::Solo;
pub use start::{Join, end_ranks_after_panic, start};
pub use stop_flag::StopFlag;
pub use threads::Threads;

/// For what implements [`Collective`].
pub mod support {
    pub use crate::peers::{Peers, describe_own};
    pub use crate::start::{end_all, has_joined};
    pub use crate::{Answer, Watch, check_ranges, check_rank, wait_for};
}

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

/// Called now and then while a call waits for other ranks; it may end the process.
pub type Watch = Arc<dyn Fn() + Send + Sync>;

/// Where an answer arrives.
pub type Answer<T> = Receiver<Result<T, CollectiveError>>;

/// How often a call that waits looks whether the other ranks are there.
const WATCHED_EVERY: Duration = Duration::from_millis(500);

/// Bytes that are on their way.
pub struct Pending {
    answer: Answer<Vec<Vec<u8>>>,
    watch: Option<Watch>,
}

impl Pending {
    /// Bytes that another thread sends once they are here; `watch` is called meanwhile.
    pub fn new(answer: Answer<Vec<Vec<u8>>>, watch: Watch) -> Self {
        Self { answer, watch: Some(watch) }
    }

    /// Bytes that are here already.
    fn arrived(all: Vec<Vec<u8>>) -> Result<Self, CollectiveError> {
        let (sender, answer) = channel();
        sender.send(Ok(all)).map_err(|_| CollectiveError::Closed)?;
        Ok(Self { answer, watch: None })
    }

    /// Waits for the bytes of every rank, in the order of ranks.
    ///
    /// # Errors
    ///
    /// If another rank has ended.
    pub fn finish(self) -> Result<Vec<Vec<u8>>, CollectiveError> {
        wait_for(&self.answer, self.watch.as_ref())
    }
}

/// Waits for an answer, and watches meanwhile.
///
/// # Errors
/// The answer is one, or nobody is left to send it.
pub fn wait_for<T>(answer: &Answer<T>, watch: Option<&Watch>) -> Result<T, CollectiveError> {
    loop {
        match answer.recv_timeout(WATCHED_EVERY) {
            Ok(answer) => return answer,
            Err(RecvTimeoutError::Disconnected) => return Err(CollectiveError::Closed),
            Err(RecvTimeoutError::Timeout) => watch.into_iter().for_each(|watch| watch()),
        }
    }
}

/// Checks that there is a rank `rank` among `size`.
///
/// # Errors
/// There is not.
pub fn check_rank(rank: usize, size: usize) -> Result<(), CollectiveError> {
    if rank < size { Ok(()) } else { Err(CollectiveError::NoRank { rank, size }) }
}

/// Checks that there is a range within `length` for each of `size` ranks.
///
/// # Errors
/// There is not.
pub fn check_ranges(length: usize, ranges: &[Range<usize>], size: usize) -> Result<(), CollectiveError> {
    if ranges.len() != size {
        return Err(CollectiveError::Ranges { ranges: ranges.len(), size });
    }
    match ranges.iter().find(|range| range.start > range.end || range.end > length) {
        Some(range) => Err(CollectiveError::Outside { start: range.start, end: range.end, length }),
        None => Ok(()),
    }
}
