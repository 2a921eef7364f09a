//! The trained adapter of a finished run at several strengths: the scale of `s · B A` times a number. 0 is the model without the
//! adapter, 1 the trained one, to the bit; what is between and beyond costs no training.
//!
//! ```text
//! measure  what is measured at each strength, on held-out data and on sampled answers
//! answers  draws answers, and estimates the KL divergence from them
//! page     the figures as rows, as a table and as a page
//! merge    writes the model with its adapter merged at a strength
//! ```
//!
//! Start at [`dial`]. This crate must not know the command line.

mod answers;
mod measure;
mod merge;
mod page;

pub use answers::{Answer, Divergence};
pub use measure::{Dial, DialOptions, Prompt, Setting, check, dial};
pub use merge::stage_merge_at;
