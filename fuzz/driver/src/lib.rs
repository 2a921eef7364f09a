//! Hostile input: one function for each parser of what users download, and the means to try it with many inputs.
//!
//! Used by the fuzz targets (`fuzz/`), by the tests of the workspace and by the driver of long runs
//! (`cargo xtask fuzz`), so that all three check the same thing: every input is answered with a value or an error,
//! within a second and within memory that the input's size bounds.

mod allocation;
mod corpus;
mod mutate;
mod places;
mod target;
mod trial;

pub use allocation::{Counting, peak_since, reset_peak};
pub use corpus::Corpus;
pub use mutate::Mutator;
pub use places::Places;
pub use target::{Answer, Limit, Target};
pub use trial::{SLOWEST_SECONDS, STACK_BYTES, Trial, fuzz, try_input};
