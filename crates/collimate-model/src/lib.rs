//! Decoder models from Hugging Face folders: log-probs of responses out, coefficients in.


mod atomic;
mod config;
mod error;
#[cfg(test)]
mod golden_files_tests;
mod merge_files;
mod names;
mod peft;
mod shards;
mod weights;
mod write_weights;

pub use config::{Activation, Architecture, AttentionBias, ModelConfig, RopeScaling};
pub use error::ModelError;
pub use merge_files::{MergeSummary, copy_side_files, merge_adapter};
pub use names::{LinearSpec, TensorSpec, linear_modules};
pub use peft::{Adapter, LoraConfig, LoraTargets};
pub use weights::{HostTensor, WeightCheck, WeightFiles};
pub use write_weights::{StorageDtype, write_model, write_safetensors};
