//! From files of rewards, preferences and rankings to groups, back, and on to tokens, in one executable.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod conversions;
mod file_kinds;
mod golden_tokens;
mod layouts;
mod malformed_rows;
mod mixing;
mod parquet_files;
mod real_data;
mod shred;
mod tokenizer_kinds;
