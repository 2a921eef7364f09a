//! Attention over segments in tiles of queries and keys in a cube's shared memory: scores never reach global memory.
//!
//! A tile of queries stacks the heads that share a key head, so that their keys and values are read once. A cube of 16 by
//! 16 units computes it; each unit owns every sixteenth row and column of the tile's scores and of the weighted sums. Cubes
//! share no sum, so results do not depend on the order in which they run.

mod backward;
mod blocks;
mod forward;
mod launch;
mod matrix;
mod sizes;
mod tables;
mod tile;

pub(super) use blocks::{Blocks, Products};
pub(super) use launch::Saved;
