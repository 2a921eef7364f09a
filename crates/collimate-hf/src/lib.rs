//! What Hugging Face's `config.json` says of a model, without computing anything.
//!
//! The crate reads and checks configurations, and knows the names and shapes of every tensor; the files of weights are for
//! `collimate-weights`. It must not know burn, devices, how a model is computed, or adapters beyond what can be wrong with them.
//! Everything downloaded is untrusted: files are bounded in size, and nothing in a folder is ever executed.
//!
//! Start with [`ModelConfig`], the configuration of a decoder; [`Family`], everything that distinguishes one architecture
//! from another; and [`TensorSpec`], the name and shape of a tensor.
//!
//! ```
//! use std::path::Path;
//!
//! use collimate_hf::ModelConfig;
//! use serde_json::json;
//!
//! # fn main() -> Result<(), collimate_hf::HfError> {
//! let json = json!({
//!     "model_type": "qwen3", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2
//! });
//! let config = ModelConfig::from_json(Path::new("config.json"), json)?;
//! // Absent fields have transformers' defaults for the family.
//! assert_eq!((config.family.model_type, config.head_dim, config.vocab_size), ("qwen3", 128, 151_936));
//! let block = config.block(1);
//! let queries = &block.linears()[0].module;
//! assert_eq!(queries, "model.layers.1.self_attn.q_proj");
//! # Ok(())
//! # }
//! ```

mod blocks;
mod config;
mod ends;
mod error;
mod experts;
mod families;
mod fields;
mod host_tensor;
mod layers;
mod limits;
mod nearest;
mod plain_file;
mod quantization;
mod read;
mod rope;
mod vision;
mod window_rope;
mod wrapped;

pub use blocks::{
    Block, DeltaNet, FeedForward, Gated, HalfNorms, Joint, LinearSpec, Shared, TensorSpec, linear_modules,
};
pub use config::{
    Activation, AttentionBias, CODEBOOK_FILE, ClampedGate, Dropped, ExpertGroups, Experts, Family, GgufFamily,
    GgufRefusal, GgufValue, LinearAttention, ModelConfig, NormPlacement, QkNorm, RouterScores, Scales, SharedExpert,
    Stacking,
};
pub use ends::{name_ends, named_ends};
pub use error::{AdapterError, HfError, ShardError, UnsavedError};
pub use families::FAMILIES;
pub use fields::Fields;
pub use host_tensor::HostTensor;
pub use plain_file::{read_bounded, read_json};
pub use rope::{QueryGrowth, RopeScaling, WindowRope};
pub use vision::{FrozenVision, Vision};
pub use wrapped::{StatedText, WRAPPERS, Wrapper};
