//! Statistics of made-up groups and of published data, in one executable.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod groups;
mod real_data;
