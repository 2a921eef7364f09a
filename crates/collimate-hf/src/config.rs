//! What a decoder is made of: everything that the engine computes by, and nothing that it must look up by a name.

mod family;

use serde_json::Value;

pub(crate) use self::family::{BiasRule, Defaults, HalfNames, JointNames, TensorNames};
pub use self::family::{Family, GgufFamily, GgufRefusal, GgufValue};
use crate::rope::RopeScaling;

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

impl AttentionBias {
    /// No projection has one.
    pub const NONE: Self = Self { q: false, k: false, v: false, o: false };
    /// Every projection has one.
    pub const ALL: Self = Self { q: true, k: true, v: true, o: true };
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
    /// The family of models that it belongs to: for names in files, and for people. The engine does not ask.
    pub family: &'static Family,
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
    /// Factor on what attention and feed-forward layer add to the residual stream.
    pub residual_scale: Option<f64>,
    /// Factor on logits, before they are squashed.
    pub logit_scale: Option<f64>,
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
    /// Tokens of the longest sequence for which rotary frequencies are defined without a look at its length; none: any.
    pub fn longest_sequence(&self) -> Option<usize> {
        match self.rope_scaling {
            RopeScaling::Dynamic { .. } => Some(self.max_position_embeddings),
            RopeScaling::Long { original_max_position_embeddings, .. } => Some(original_max_position_embeddings),
            _ => None,
        }
    }
}
