//! Attention on matrix units (tensor cores), which multiply 16 by 16 tiles in 16-bit dtypes.
//!
//! Tiles of queries, keys and values are in shared memory in their own dtype. Scores are float32, weights are rounded to the
//! dtype of the values, and weighted sums are float32. A first pass over the keys finds each row's log-sum-exp, so that the
//! sums of the second pass are never rescaled and stay in registers.
//!
//! With `Sizes::matrix` off, the same kernels multiply element by element, so that tests can run them on any device.

mod backward;
mod forward;
mod sizes;
mod staging;
mod tile;

pub(super) use backward::{matrix_keys_kernel, matrix_queries_kernel};
pub(super) use forward::matrix_forward_kernel;
