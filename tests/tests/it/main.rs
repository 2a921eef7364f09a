//! The command line from end to end, on the golden model folders.

mod cli;
mod generation;
mod harness;
mod malformed;
mod parity;
mod runs;
mod schedule;
mod tolerances;
