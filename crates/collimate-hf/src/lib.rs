//! Hugging Face folders: a model on disk, without computing anything.
//!
//! The crate reads and checks `config.json`, knows the names and shapes of every tensor, and maps and writes safetensors
//! files. It must not know burn, devices, how a model is computed, or adapters beyond what can be wrong with them. Everything downloaded is untrusted: files are bounded in size, names are checked, and nothing in a folder is
//! ever executed.
//!
//! Start with [`ModelConfig`], the configuration of a decoder; [`Family`], everything that distinguishes one architecture
//! from another; and [`WeightFiles`], the tensors of a folder.
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
mod layers;
mod limits;
mod model_file;
mod model_folder;
mod nearest;
mod plain_file;
mod quantization;
mod read;
mod rope;
mod shards;
mod side_files;
mod stacked;
mod vision;
mod weights;
mod window_rope;
mod wrapped;
mod write_weights;

pub use blocks::{
    Block, DeltaNet, FeedForward, Gated, HalfNorms, Joint, LinearSpec, Shared, TensorSpec, linear_modules,
};
pub use config::{
    Activation, AttentionBias, ClampedGate, ExpertGroups, Experts, Family, GgufFamily, GgufRefusal, GgufValue,
    LinearAttention, ModelConfig, NormPlacement, QkNorm, RouterScores, SharedExpert,
};
pub use ends::{name_ends, named_ends};
pub use error::{AdapterError, HfError, ShardError, UnsavedError};
pub use families::FAMILIES;
pub use fields::Fields;
pub use model_file::is_model_file;
pub use model_folder::ModelFolder;
pub use plain_file::{read_bounded, read_json};
pub use rope::{QueryGrowth, RopeScaling, WindowRope};
pub use shards::{has_weights, pickle_in};
pub use side_files::{copy_files, copy_side_files, side_files};
pub use vision::{FrozenVision, Vision};
pub use weights::{HostTensor, KeptTensor, Storage, WeightCheck, WeightFiles};
pub use wrapped::{WRAPPERS, Wrapper};
pub use write_weights::{
    StorageDtype, check_output, write_model, write_model_like, write_safetensors, write_safetensors_of,
};
