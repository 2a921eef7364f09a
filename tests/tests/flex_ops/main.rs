//! flex's operations, which are kernels, compared with the plain forms of the same operations.

mod bfloat16;
mod delta;
mod float32;
