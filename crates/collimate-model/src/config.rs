//! One configuration of a decoder, read from a Hugging Face `config.json` of either generation.

mod defaults;
mod fields;
mod layers;
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
    /// `mixtral`: Mistral with several feed-forward layers, of which a router picks some for each token.
    Mixtral,
    /// `qwen2`: Llama with biases on queries, keys and values.
    Qwen2,
    /// `qwen3`: Llama with a norm on each head's queries and keys.
    Qwen3,
    /// `gemma2`: norms around attention and feed-forward layer, squashed scores and logits, every other layer windowed.
    Gemma2,
    /// `phi3`: Llama with fused projections (Phi-3, Phi-3.5 and Phi-4).
    Phi3,
    /// `olmo2`: norms after attention and feed-forward layer, and on whole queries and keys.
    Olmo2,
    /// `smollm3`: Llama with layers that do not rotate.
    SmolLm3,
}

impl Architecture {
    /// Every architecture that is known.
    pub const ALL: [Self; 9] = [
        Self::Llama,
        Self::Mistral,
        Self::Mixtral,
        Self::Qwen2,
        Self::Qwen3,
        Self::Gemma2,
        Self::Phi3,
        Self::Olmo2,
        Self::SmolLm3,
    ];

    /// Its `model_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Mixtral => "mixtral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma2 => "gemma2",
            Self::Phi3 => "phi3",
            Self::Olmo2 => "olmo2",
            Self::SmolLm3 => "smollm3",
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

/// Where the norms of attention and of the feed-forward layer stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlacement {
    /// On their input.
    Before,
    /// On their output, before it is added to the stream.
    After,
    /// On both.
    BeforeAndAfter,
}

/// Which queries and keys are normalised (RMSNorm), before they are rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// None.
    None,
    /// Each head by itself.
    Head,
    /// All heads of a token together.
    Projection,
}

/// Feed-forward layers of which each token goes through some.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Experts {
    /// Number of experts, E.
    pub count: usize,
    /// How many of them a token goes through, at most E.
    pub per_token: usize,
    /// Weight of the router's balance loss in training (`router_aux_loss_coef`); 0 for none.
    pub balance_weight: f64,
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
    /// How many numbers of a head are rotated, from its first on; even.
    pub rotary_dim: usize,
    /// Whether the output embedding is the input embedding.
    pub tie_word_embeddings: bool,
    /// Non-linearity of the feed-forward layer.
    pub hidden_act: Activation,
    /// Biases of the attention's projections.
    pub attention_bias: AttentionBias,
    /// Whether the feed-forward layer's projections have biases.
    pub mlp_bias: bool,
    /// What attention scores are multiplied by, most often 1/√head_dim.
    pub attention_scale: f64,
    /// c where attention scores are squashed to c · tanh(score / c).
    pub attention_softcap: Option<f64>,
    /// c where logits are squashed to c · tanh(logit / c).
    pub logit_softcap: Option<f64>,
    /// Factor on token embeddings where they enter the first block.
    pub embedding_scale: Option<f64>,
    /// Where the norms of a block stand.
    pub norm_placement: NormPlacement,
    /// Whether norms multiply by one more than their stored weight.
    pub norm_offset: bool,
    /// Norms on queries and keys.
    pub qk_norm: QkNorm,
    /// Whether queries, keys and values come from one matrix, and gate and up from another.
    pub fused_projections: bool,
    /// The experts in place of one feed-forward layer.
    pub experts: Option<Experts>,
    /// For each layer whether queries and keys are rotated.
    pub rotated_layers: Vec<bool>,
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

    /// Tokens of the longest sequence for which rotary frequencies are defined without a look at its length; none: any.
    pub fn longest_sequence(&self) -> Option<usize> {
        match self.rope_scaling {
            RopeScaling::Dynamic { .. } => Some(self.max_position_embeddings),
            RopeScaling::Long { original_max_position_embeddings, .. } => Some(original_max_position_embeddings),
            _ => None,
        }
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
