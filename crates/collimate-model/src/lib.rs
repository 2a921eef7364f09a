//! Decoder models from Hugging Face folders: log-probs of responses out, coefficients in.


mod atomic;
mod config;
mod error;
#[cfg(test)]
mod golden_files_tests;
mod names;
mod shards;
mod weights;
mod write_weights;

pub use config::{Activation, Architecture, AttentionBias, ModelConfig, RopeScaling};
pub use error::ModelError;
pub use names::{LinearSpec, TensorSpec, linear_modules};
pub use weights::{HostTensor, WeightCheck, WeightFiles};
pub use write_weights::{StorageDtype, write_model, write_safetensors};
