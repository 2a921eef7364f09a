//! Vision towers on a device: patches of images in, a row of the text model's width for each token out; and back.
//!
//! ```text
//! patches → embedding → blocks (attention within an image or a window, feed-forward layer) → merger → rows
//! ```
//!
//! Computed with a backend's [`FusedOps`](collimate_backend::FusedOps) where it has the operation, and with burn's otherwise. Like the decoder, a
//! tower records no graph: [`VisionTower::forward`] keeps the input of each block, and [`VisionTower::backward`] computes a block
//! again before it goes back through it. Everything that distinguishes towers is a field of `collimate_towers::Tower`.
//!
//! The crate must not know images, files, the text model, or names of families.

mod activations;
mod attention;
mod block;
#[cfg(test)]
mod golden_tests;
mod ids;
mod linear;
mod norm;
mod order;
mod row_cache;
mod tower;
#[cfg(test)]
mod tower_tests;

pub use collimate_towers::Linear;
pub use ids::{BlockIds, LinearIds, LoraIds, NormIds, TowerIds};
pub use linear::Slots;
pub use order::{Order, PatchGrid};
pub use row_cache::RowCache;
pub use tower::{TowerTape, VisionTower};
