//! Decoder models from Hugging Face folders: log-probs of responses out, coefficients in.

mod causal_lm;
mod config;
mod dropout;
mod engine;
mod error;
mod generate;
mod gguf;
#[cfg(test)]
mod golden_bfloat16_tests;
#[cfg(test)]
mod golden_files_tests;
#[cfg(test)]
mod golden_scores_tests;
mod head;
mod layout;
mod logprob;
mod memory;
mod merge_files;
mod names;
mod peft;
#[cfg(test)]
mod plain_decoder_tests;
mod plain_file;
mod rope;
mod routing;
mod segments;
mod shard_size;
mod shards;
mod weights;
mod write_weights;

pub use causal_lm::{CausalLm, ForwardOptions, Tape, TokenLogps, Trainable};
pub use collimate_backend::ComputeDtype;
pub use config::{Activation, Architecture, AttentionBias, Experts, ModelConfig, NormPlacement, QkNorm, RopeScaling};
pub use dropout::DropoutKey;
pub use error::ModelError;
pub use generate::GenerateOptions;
pub use gguf::{GgufOptions, GgufSummary, GgufType, export_gguf};
pub use layout::ParameterInfo;
pub use memory::{MemoryCosts, ParameterCounts};
pub use merge_files::{MergeOptions, MergeSummary, copy_side_files, merge_adapter};
pub use names::{LinearSpec, TensorSpec, linear_modules};
pub use peft::{Adapter, LoraConfig, LoraTargets};
pub use routing::RouterLoad;
pub use shard_size::{ShardSize, ShardSizeError};
pub use weights::{HostTensor, WeightCheck, WeightFiles};
pub use write_weights::{StorageDtype, write_model, write_safetensors, write_safetensors_of};
