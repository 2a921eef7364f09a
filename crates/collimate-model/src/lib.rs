//! Decoder models from Hugging Face folders: log-probs of responses out, coefficients in.

mod causal_lm;
mod dropout;
mod engine;
mod error;
mod generate;
#[cfg(test)]
mod golden_bfloat16_tests;
#[cfg(test)]
mod golden_scores_tests;
mod head;
mod layout;
mod logprob;
mod memory;
#[cfg(test)]
mod plain_decoder_tests;
mod rope;
mod routing;
mod segments;

pub use causal_lm::{CausalLm, ForwardOptions, Tape, TokenLogps, Trainable};
pub use collimate_backend::ComputeDtype;
pub use dropout::DropoutKey;
pub use error::ModelError;
pub use generate::GenerateOptions;
pub use layout::ParameterInfo;
pub use memory::{MemoryCosts, ParameterCounts};
pub use routing::RouterLoad;
