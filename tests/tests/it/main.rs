//! The command line from end to end, on the golden model folders.

mod cli;
mod harness;
mod malformed;
mod schedule;
