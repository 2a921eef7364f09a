//! The kernels of layers with states in place of keys and values.

mod convolution;
mod delta;
#[path = "../../../collimate-kernels/src/testing.rs"]
mod testing;
