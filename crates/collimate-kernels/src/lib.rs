//! The CPU kernels of Collimate: float32 slices in, float32 slices out.
//!
//! Forward and backward of what a decoder does, written for speed: vectorised for AVX-512, AVX2 with FMA or NEON as found
//! at run time (plain code elsewhere) and spread over rayon's threads. Every sum is split in the same way whatever the
//! number of threads, so results do not depend on it.
//!
//! Knows nothing of tensors, backends, models or objectives.

mod adamw;
mod attention;
mod dropout;
mod gated;
mod gemm;
mod norm;
mod rotary;
mod simd;
mod target_logps;
#[cfg(test)]
mod testing;
mod vector;

pub use adamw::{AdamwStep, adamw};
pub use attention::{AttentionSaved, AttentionShape, Segment, attention, attention_backward};
pub use dropout::{DropoutRows, dropout, dropout_mask};
pub use gated::{GateActivation, gated, gated_backward};
pub use gemm::{Matrix, multiply};
pub use norm::{rms_norm, rms_norm_backward};
pub use rotary::rotate;
pub use target_logps::{TargetLogp, target_logps, target_logps_backward, target_logps_with_gradients};
pub use vector::{add_rows, add_scaled, sum_of_squares};
