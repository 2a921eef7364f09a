//! What goes wrong between ranks.

/// Why a call of a collective failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CollectiveError {
    /// A rank ended while others still needed it.
    #[error("rank {rank} ended: {cause}")]
    Ended {
        /// Which.
        rank: usize,
        /// Why.
        cause: String,
    },
    /// A rank found an error, on which all ranks agree.
    #[error("rank {rank}: {message}")]
    Failed {
        /// The first rank that found one.
        rank: usize,
        /// Its message.
        message: String,
    },
    /// Ranks made different calls.
    #[error("rank {rank} called {found} where this rank called {expected}")]
    Mismatch {
        /// The other rank.
        rank: usize,
        /// What it called.
        found: &'static str,
        /// What this one called.
        expected: &'static str,
    },
    /// There is not one range for each rank.
    #[error("{ranges} ranges for {size} ranks")]
    Ranges {
        /// How many were given.
        ranges: usize,
        /// How many ranks there are.
        size: usize,
    },
    /// A range is not within the numbers.
    #[error("range {start}..{end} of {length} numbers")]
    Outside {
        /// Where it starts.
        start: usize,
        /// Where it ends.
        end: usize,
        /// How many numbers there are.
        length: usize,
    },
    /// A rank sent another number of values than were expected of it.
    #[error("rank {rank} sent {found} numbers, expected {expected}")]
    Length {
        /// Which rank.
        rank: usize,
        /// How many it sent.
        found: usize,
        /// How many were expected.
        expected: usize,
    },
    /// There is no such rank.
    #[error("there is no rank {rank} among {size}")]
    NoRank {
        /// Which.
        rank: usize,
        /// How many there are.
        size: usize,
    },
    /// The thread that talks to the other ranks has ended.
    #[error("the connection to the other ranks is closed")]
    Closed,
    /// A variable of the launcher is not usable.
    #[error("environment variable {variable} is {value:?}, expected {expected}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// What it is.
        value: String,
        /// What it must be.
        expected: String,
    },
    /// Several processes were started of a program that cannot talk to its likes.
    #[error(
        "{launcher} started this program as rank {rank} of {size}, but it was built without MPI; \
         build it with the feature `mpi`, or start it once"
    )]
    WithoutMpi {
        /// What started it.
        launcher: &'static str,
        /// As which rank.
        rank: usize,
        /// Of how many.
        size: usize,
    },
    /// MPI did not start.
    #[error("MPI did not start: {0}")]
    NotStarted(String),
    /// The launcher and MPI do not agree.
    #[error(
        "{launcher} started rank {rank} of {size}, but MPI says rank {mpi_rank} of {mpi_size}; \
         start the program with the mpirun of the MPI that it was built with"
    )]
    OtherWorld {
        /// What started it.
        launcher: &'static str,
        /// As which rank.
        rank: usize,
        /// Of how many.
        size: usize,
        /// MPI's rank.
        mpi_rank: usize,
        /// MPI's size.
        mpi_size: usize,
    },
}
