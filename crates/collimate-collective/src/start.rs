//! Joins the other ranks of the run, if there are any, and ends them all.

use std::io::Write;
use std::sync::{Arc, OnceLock};

use crate::{Collective, CollectiveError, Place, Solo};

/// This process's number, once it has joined others.
static RANK: OnceLock<usize> = OnceLock::new();

/// How a program joins the processes that were started with it.
pub type Join = fn(Place) -> Result<Arc<dyn Collective>, CollectiveError>;

/// Joins the ranks that a launcher started with this process; [`Solo`] if it was started alone.
///
/// The program's panic hook must call [`end_ranks_after_panic`].
///
/// # Errors
///
/// If several processes were started and this program cannot `join` them (each would believe that it is alone and write to the
/// same folder), or if it joins others than the launcher started.
pub fn start(join: Option<Join>) -> Result<Arc<dyn Collective>, CollectiveError> {
    match (Place::from_environment()?, join) {
        (Some(place), Some(join)) if place.size > 1 => join(place),
        (Some(Place { launcher, rank, size }), None) if size > 1 => {
            Err(CollectiveError::WithoutMpi { launcher, rank, size })
        }
        _ => Ok(Arc::new(Solo)),
    }
}

/// Ends all ranks if this process has joined others, which would wait for it forever. For a panic hook: after its message, and
/// not for a panic that becomes an error.
pub fn end_ranks_after_panic() {
    if let Some(rank) = RANK.get() {
        end_all(*rank, "panicked");
    }
}

/// Ends this process, and with it the job, after a message. The launcher ends a job of which a process ends without leaving MPI. MPI's own abort may only be called by the thread
/// that talks to it, which may be waiting.
pub fn end_all(rank: usize, cause: &str) -> ! {
    // `eprintln` would panic if nobody reads standard error any more.
    let _ = writeln!(std::io::stderr(), "error: rank {rank}: {cause}; all ranks end");
    std::process::exit(1)
}

/// Notes that this process is one of several.
pub fn has_joined(rank: usize) {
    RANK.get_or_init(|| rank);
}
