//! Attention over segments in tiles of queries and keys that live in a cube's shared memory: scores are never held.
//!
//! A tile of queries has the heads that share a head of keys below each other, so that keys and values are read once for all
//! of them. A cube of 16 by 16 units computes it; each unit holds every sixteenth row and column of the tile's scores and
//! of what they mix. No sum is shared between cubes, so results do not depend on the order in which cubes run.

mod backward;
mod forward;
mod matrix;
mod plan;
mod tile;

pub(super) use backward::Saved;
pub(super) use plan::{Blocks, Products};
