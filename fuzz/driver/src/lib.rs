//! Hostile input: one function per parser of downloaded files, and the means to try many inputs.
//!
//! The fuzz targets (`fuzz/`), the workspace's tests and the driver of long runs (`cargo xtask fuzz`) share it, so all
//! three check the same: every input is answered with a value or an error, within a second, and within memory bounded
//! by the input's size.
//!
//! Read [`Target`] first (the parsers and their limits), then [`try_input`], which tries one input and reports what is
//! wrong in a [`Trial`].
//!
//! ```
//! use collimate_hostile::{InputFolders, Target, try_input};
//!
//! let input = b"{\"prompt\": ";
//! let trial = try_input(Target::Jsonl, &InputFolders::new()?, input);
//! assert!(trial.fault(Target::Jsonl, input).is_none(), "{trial:?}");
//! # std::io::Result::Ok(())
//! ```

mod allocation;
mod answer;
mod corpus;
mod input_folders;
mod mutate;
mod parsers;
mod target;
mod trial;

pub use allocation::{Counting, peak_since, reset_peak};
pub use answer::Answer;
pub use corpus::Corpus;
pub use input_folders::InputFolders;
pub use mutate::Mutator;
pub use target::{Limit, Target};
pub use trial::{SLOWEST_SECONDS, STACK_BYTES, Trial, fuzz, try_input};
