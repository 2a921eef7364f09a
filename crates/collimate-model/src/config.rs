//! One configuration of a decoder, read from a Hugging Face `config.json` of either generation.

mod fields;
mod limits;
mod parse;
mod rope;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde_json::Value;

pub(crate) use self::fields::Fields;
pub use self::rope::RopeScaling;
use crate::error::ModelError;
use crate::names::{self, TensorSpec};
use crate::plain_file::{MAX_JSON_BYTES, read_bounded};
use crate::shards;

/// A decoder family, by the `model_type` of its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Architecture {
    /// `llama`: Llama 1 to 3, and the many models of its form.
    Llama,
    /// `mistral`: Llama with a sliding window over every layer.
    Mistral,
    /// `qwen2`: Llama with biases on queries, keys and values.
    Qwen2,
    /// `qwen3`: Llama with a norm on each head's queries and keys.
    Qwen3,
}

impl Architecture {
    /// Every architecture that is known.
    pub const ALL: [Self; 4] = [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3];

    /// Its `model_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The architecture of a `model_type`, if it is known.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|architecture| architecture.name() == name)
    }
}

/// The non-linearity of the gated feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x σ(x): `silu`, `swish`.
    Silu,
    /// GELU by its tanh approximation: `gelu_pytorch_tanh`, `gelu_new`.
    GeluTanh,
    /// GELU by the error function: `gelu`.
    Gelu,
}

/// Which projections of the attention have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttentionBias {
    /// Queries.
    pub q: bool,
    /// Keys.
    pub k: bool,
    /// Values.
    pub v: bool,
    /// Output.
    pub o: bool,
}

/// What a decoder is made of; every size is at least 1 and they fit each other.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Family.
    pub architecture: Architecture,
    /// Number of tokens, V.
    pub vocab_size: usize,
    /// Width of the residual stream, D.
    pub hidden_size: usize,
    /// Inner width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Query heads, H; a multiple of the key-value heads.
    pub num_attention_heads: usize,
    /// Key-value heads.
    pub num_key_value_heads: usize,
    /// Width of one head; even.
    pub head_dim: usize,
    /// Longest sequence that the model is made for, in tokens.
    pub max_position_embeddings: usize,
    /// Added to the mean square inside every RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Stretching of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// Whether the output embedding is the input embedding.
    pub tie_word_embeddings: bool,
    /// Non-linearity of the feed-forward layer.
    pub hidden_act: Activation,
    /// Biases of the attention's projections.
    pub attention_bias: AttentionBias,
    /// Whether the feed-forward layer's projections have biases.
    pub mlp_bias: bool,
    /// Whether queries and keys are normalised per head (RMSNorm over `head_dim`).
    pub qk_norm: bool,
    /// For each layer how many tokens back it sees, itself included; none: all.
    pub layer_windows: Vec<Option<usize>>,
    /// Tokens that end generation: those of `config.json`, then further ones of `generation_config.json`.
    pub eos_token_ids: Vec<u32>,
    /// Token that begins a text.
    pub bos_token_id: Option<u32>,
    /// Standard deviation of fresh weights.
    pub initializer_range: f64,
    /// Type that the weights say to be stored in: `float32`, `bfloat16`, `float16`.
    pub dtype: Option<String>,
    /// The file as it was, for writing it again.
    pub raw: Value,
}

impl ModelConfig {
    /// Reads `config.json` of a model folder, and the end-of-text tokens of its `generation_config.json` if it has one.
    ///
    /// # Errors
    /// [`ModelError`] naming file and field: not JSON, sizes that are zero, absurd or do not fit each other, an
    /// architecture, activation or rotary type that is not supported.
    pub fn from_dir(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("config.json");
        if dir.is_file() && shards::is_pickle(dir) {
            return Err(ModelError::PickledWeights { path: dir.to_owned() });
        }
        if !path.is_file() {
            let remedy = "a model folder has a config.json that describes its architecture".to_owned();
            return Err(ModelError::MissingFile { path, remedy });
        }
        let mut config = Self::from_json(&path, read_json(&path)?)?;
        let path = dir.join("generation_config.json");
        if path.is_file() {
            let generation = read_json(&path)?;
            for id in Fields::top(&path, &generation)?.token_ids("eos_token_id")? {
                if !config.eos_token_ids.contains(&id) {
                    config.eos_token_ids.push(id);
                }
            }
        }
        Ok(config)
    }

    /// Reads the contents of a `config.json`; `path` is for errors only.
    ///
    /// A field that is absent has the value that transformers gives it for the architecture.
    ///
    /// # Errors
    /// As [`ModelConfig::from_dir`].
    pub fn from_json(path: &Path, value: Value) -> Result<Self, ModelError> {
        parse::config(path, value)
    }

    /// Every tensor that the architecture needs, by its Hugging Face name; without `lm_head.weight` where tied.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        names::tensors(self)
    }

    /// Whether `config.json` names code in the folder (`auto_map`), as models do that want `trust_remote_code`. No code
    /// of a folder is ever run: the model is computed as its `model_type` says.
    pub fn names_code(&self) -> bool {
        limits::names_code(&self.raw)
    }

    /// The number of parameters, a tied embedding counted once.
    pub fn num_parameters(&self) -> usize {
        self.tensors().iter().map(TensorSpec::num_elements).sum()
    }
}

/// The JSON value in a file.
pub(crate) fn read_json(path: &Path) -> Result<Value, ModelError> {
    let text = read_bounded(path, MAX_JSON_BYTES)?;
    serde_json::from_slice(&text)
        .map_err(|error| ModelError::Json { path: path.to_owned(), message: error.to_string() })
}
