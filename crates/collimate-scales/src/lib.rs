//! Visual autoregressive modeling (VAR, arXiv 2404.02905): a picture is token maps of growing sides, each predicted as a whole
//! from the coarser ones.
//!
//! [`Codebook::teacher_inputs`] turns a picture's tokens into what the transformer reads, on the host: embed a map, enlarge it,
//! smooth it, add it to the sum so far, and average that down to the next side. [`Transformer::logps`] computes the log-prob of
//! every token in burn's plain operations, and [`Transformer::gradients`] their gradients by automatic differentiation.
//!
//! It is not fast, keeps every activation for the backward pass, and has no cache: drawing pictures is left to whoever asks for
//! logits map by map. It must not know files, sessions or objectives.
//!
//! Letters: B pictures, L tokens of a picture, D width, H heads, V vocabulary, C width of a codebook entry, S scales.

mod codebook;
mod resample;
mod transformer;

pub use codebook::{Codebook, Smoothing};
pub use transformer::{Differentiated, Pictures, Sizes, Transformer};
