//! Vision towers of image-and-text models: what their `vision_config` says, and what their tensors are called.
//!
//! The crate must not know burn, devices, how a tower is computed, or images. A tower is one file of `families`, which says how
//! it differs from the others; `collimate-vision` computes it by the fields of [`Tower`] and never asks for its name.

mod families;
mod fields;
mod names;
mod tower;

pub use families::{FAMILIES, TowerFamily};
pub use fields::TowerError;
pub use names::{BlockNames, Linear, MergerNames};
pub use tower::{FeedForward, Norm, Tower, Windows};
