//! LoRA adapters in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! An adapter adds `s · B A` to the weight of a linear layer, A [r, in], B [out, r] (arXiv 2106.09685). With DoRA (arXiv
//! 2402.09353) each row of the sum then gets a length of its own. Whole tensors can be trained beside, as copies.
//!
//! The crate reads and writes adapters and merges them into the files of a model. It must not know burn, devices, or how a
//! model is computed. Adapters are as untrusted as models: every tensor must have a place in the model, and patterns are
//! bounded in size and steps.
//!
//! Start with [`LoraConfig`], which says what an adapter changes; [`Adapter`], its tensors; and [`merge_adapter`].
//!
//! ```
//! use std::path::Path;
//!
//! use collimate_hf::ModelConfig;
//! use collimate_peft::{LoraConfig, LoraTargets};
//! use serde_json::json;
//!
//! # fn main() -> Result<(), collimate_hf::HfError> {
//! let json = json!({ "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4 });
//! let model = ModelConfig::from_json(Path::new("config.json"), json)?;
//! let config = LoraConfig::new(16, 32.0, LoraTargets::Names(vec!["q_proj".to_owned()]));
//! assert_eq!(config.scale(), 2.0);
//! assert_eq!(config.target_modules(&model)?[1].module, "model.layers.1.self_attn.q_proj");
//! # Ok(())
//! # }
//! ```

mod adapter;
mod by_name;
mod config;
mod default_targets;
mod factors;
mod json;
mod matching;
mod merge;
mod merge_files;
mod names;
mod read;
mod resolved;
mod stacked;
mod strength;

pub use adapter::Adapter;
pub use config::{LoraConfig, LoraTargets};
pub use default_targets::{all_linear, peft_default_targets};
pub use factors::FactorNames;
pub use matching::{ByPattern, LayerChoice, ModuleNames, ModulePattern};
pub use merge::{merged_tensor, row_lengths};
pub use merge_files::{MergeOptions, MergeSummary, StagedMerge, merge_adapter, stage_merge};
pub use names::AdapterPart;
pub use strength::times_strength;
