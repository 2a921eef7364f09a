//! Reads and writes files of models that are made here.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod parts;
mod static_fp8;
mod weights;
mod write;
