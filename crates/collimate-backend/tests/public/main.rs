//! Tests by the public API.

mod faults;
mod table;
