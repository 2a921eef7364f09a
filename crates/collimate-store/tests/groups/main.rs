//! Which rows a run uses and where their tokens are kept, in one executable.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod damage;
mod found;
mod mixing;
mod scene;
mod splitting;
