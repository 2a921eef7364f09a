//! The same attention with the products of a tile on units that multiply matrices of 16 by 16 (tensor cores), for types of
//! sixteen bits.
//!
//! Tiles of queries, keys and values are in shared memory in their own type; scores are in float32, weights are rounded to
//! the type of the values, and what they mix is summed in float32. A row's log-sum-exp is found in a first pass over the keys,
//! so that the sums of the second are never rescaled: they stay in the units' own registers.
//!
//! Where [`Sizes::matrix`] is off, the same kernels multiply number by number, which is how tests run them on any device.

mod backward;
mod forward;
mod tile;

pub(super) use backward::{matrix_keys_kernel, matrix_queries_kernel};
pub(super) use forward::matrix_forward_kernel;
