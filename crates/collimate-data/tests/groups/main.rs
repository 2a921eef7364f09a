//! Reads files of rewards, preferences and rankings as groups and writes them back, in one executable.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod columns;
mod common;
mod conversions;
mod fields;
mod file_kinds;
mod labels;
mod layouts;
mod malformed_rows;
mod missing;
mod parquet_files;
mod parquet_numbers;
mod parquet_records;
mod published;
mod ranked;
mod ratings;
mod shred;
mod turns;
