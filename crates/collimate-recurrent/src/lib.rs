//! CPU kernels of recurrent layers: slices of float32 or bfloat16 in and out, computed in float32.
//!
//! A recurrent layer has a state in place of keys and values. Segments are those of attention: a response goes on from the
//! final state of its prompt, which is computed once, and the gradients of all responses in that state are summed. Results do
//! not depend on the number of threads, and a size mismatch panics, as in `collimate-kernels`.
//!
//! Read first: [`delta_rule`] with [`DeltaShape`], and [`convolution`](convolution()).
//!
//! Must not know: tensors, backends, models and objectives.

mod convolution;
mod delta;

pub use convolution::{Convolution, convolution, convolution_backward};
pub use delta::{DeltaGradients, DeltaInputs, DeltaShape, delta_rule, delta_rule_backward, delta_states};
