//! Benchmarks of whole training steps, ours beside PyTorch's; `cargo xtask bench` runs them.
//!
//! A *work* is a training task done by one or more *entrants*. Each entrant is a process; they take their steps in turns and
//! are measured from outside, so that neither side times itself. Benchmarks of single kernels are in `benches/`.
//!
//! Read [`work::Work`] (what is measured), [`entrant::Entrant`] (a process that takes steps) and [`contest::measure`].

// Registers the objectives that recipes name.
use collimate as _;

pub mod assets;
mod by_type;
pub mod compute;
pub mod contest;
pub mod control;
pub mod docs;
pub mod entrant;
pub mod figures;
pub mod files;
pub mod machine;
pub mod result;
pub mod rows;
pub mod tokenizer;
pub mod work;
