//! Collimate's CPU kernels: slices of float32 or bfloat16 in and out, computed in float32.
//!
//! The forward and backward operations of a decoder, vectorized for AVX-512, AVX2 with FMA or NEON, whichever the processor
//! has (scalar code elsewhere), and parallel over rayon's threads. Every sum is split the same way for any number of
//! threads, so results do not depend on it. Each function documents its shapes; a size mismatch panics, since it can only
//! be a bug in the caller.
//!
//! Activations, and the weights of products, are of an [`Element`] type: bfloat16 is widened where it is read, and a result is
//! rounded to it once. Statistics, log-sum-exps, angles, norm weights and gradients of weights are float32 always.
//!
//! Products of bfloat16 numbers use AMX or AVX-512's `vdpbf16ps` where the processor has them ([`multiply_bfloat16`]).
//!
//! Read first: [`attention`] with [`Segment`], [`target_logps`] with [`OutputLayer`], and [`multiply`] with [`Matrix`].
//!
//! Must not know: tensors, backends, models and objectives.
//!
//! ```
//! use collimate_kernels::{OutputLayer, target_logps};
//!
//! // Two tokens, of which the second has the larger logit: 0 and ln 3.
//! let weight = [0.0, 3f32.ln()];
//! let layer = OutputLayer { weight: &weight, width: 1, softcap: None };
//! let logps = target_logps(&[1.0], layer, &[1]);
//! assert!((logps[0].logp - (3.0f64 / 4.0).ln()).abs() < 1e-6);
//! ```

mod adamw;
mod attention;
#[cfg(test)]
mod bfloat16_tests;
mod dropout;
mod element;
mod gated;
mod gemm;
mod norm;
mod rotary;
pub mod simd;
mod target_logps;
#[cfg(test)]
mod testing;
mod threads;
mod vector;

pub use adamw::{AdamwStep, adamw};
pub use attention::{AttentionSaved, AttentionShape, Segment, attention, attention_backward};
pub use dropout::{DropoutRows, dropout, dropout_mask};
pub use element::{Element, to_bfloat16};
pub use gated::{GateActivation, gated, gated_backward};
pub use gemm::{
    Bfloat16Matrix, MatmulPrecision, Matrix, PackedBfloat16, PackedWeight, View, bfloat16_products, multiply,
    multiply_bf16, multiply_bfloat16, multiply_here, multiply_packed, multiply_packed_bf16, multiply_prepared,
    multiply_split, packed_bfloat16_bytes, set_float32_matmul_precision, unpack_weight,
};
#[doc(hidden)]
pub use gemm::{all_bfloat16_products, bare_bfloat16_products, force_bfloat16_products};
pub use norm::{rms_norm, rms_norm_backward};
pub use rotary::rotate;
pub use target_logps::{OutputLayer, TargetLogp, target_logps, target_logps_backward, target_logps_with_gradients};
pub use threads::{join, run_passes_on_the_main_thread, set_threads};
pub use vector::{add_rows, add_scaled, sum_of_squares};
