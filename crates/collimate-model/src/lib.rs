//! Decoder-only language models, forward and backward.
//!
//! A [`CausalLm`] holds a model's parameters on one device. [`CausalLm::score`] gives the log-probs of responses;
//! [`CausalLm::forward`] gives them with a [`Tape`], and once an objective has turned them into coefficients,
//! [`CausalLm::backward`] accumulates `Σ_k c_k · ∂ log π(y_k|x)/∂θ`. A prompt is computed once for all its responses.
//! The crate also has LoRA adapters with dropout, generation with a key-value cache, and [`MemoryCosts`], training's
//! memory use.
//!
//! Read first: [`CausalLm`], [`Tape`] and [`ForwardOptions`]; inside, `engine.rs`, the blocks and their backward pass.
//!
//! Must not know: data files, losses, optimizers, and the names of architectures, which it sees only as fields of
//! [`ModelConfig`](collimate_hf::ModelConfig).
//!
//! ```
//! use burn_flex::{Flex, FlexDevice};
//! use collimate_hf::{HostTensor, ModelConfig};
//! use collimate_model::{CausalLm, ComputeDtype, Placement, Trainable};
//! use collimate_text::{GroupBatch, TokenizedGroup, TokenizedResponse};
//!
//! let config = serde_json::json!({
//!     "model_type": "llama", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
//!     "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
//! });
//! let config = ModelConfig::from_json("config.json".as_ref(), config)?;
//! let placement = Placement { device: FlexDevice, dtype: ComputeDtype::Float32 };
//! let zeros = |info: &collimate_model::ParameterInfo| Ok(HostTensor::zeros(info.file_shape.clone()));
//! let model = CausalLm::<Flex>::new(config, None, Trainable::Nothing, placement, zeros)?;
//!
//! let response = |id| TokenizedResponse { ids: vec![id], reward: 0.0, num_cut: 0 };
//! let responses = vec![response(5), response(6)];
//! let group = TokenizedGroup { prompt_ids: vec![1, 2, 3], responses, ..TokenizedGroup::default() };
//! let logps = model.score(&GroupBatch::shared([&group]), true, None)?;
//! // Weights of zero make all 32 tokens equally likely.
//! assert!((logps[0][1][0] + 32f64.ln()).abs() < 1e-6);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod causal_lm;
mod dropout;
mod engine;
mod error;
mod generate;
#[cfg(test)]
mod golden_adapter_tests;
#[cfg(test)]
mod golden_bfloat16_tests;
#[cfg(test)]
mod golden_scores_tests;
mod host;
mod kept_inputs;
mod memory;
mod parameter_index;
#[cfg(test)]
mod plain_decoder_tests;
mod router_load;
mod segments;
mod targets;

pub use causal_lm::{CausalLm, ForwardOptions, ParameterValue, Placement, Tape, TokenLogps};
pub use collimate_backend::ComputeDtype;
pub use collimate_routing::RouterLoad;
pub use collimate_sampling::{GenerateOptions, Guidance, TimeLimit};
pub use dropout::DropoutKey;
pub use error::{ModelError, StoreError};
pub use kept_inputs::{InputKey, InputPlace, InputStore};
pub use memory::{MemoryCosts, ParameterCounts};
pub use parameter_index::{ParameterInfo, Trainable};
