//! The ranks of a run as processes, by MPI.
//!
//! A crate of its own, because a program that links libmpi does not start without it: all other crates are the same with the
//! feature `mpi` and without. Read first: `Mpi`. Must not know: tensors, models, files.

#[cfg(feature = "mpi")]
mod world;

#[cfg(feature = "mpi")]
pub use world::{Mpi, join};
