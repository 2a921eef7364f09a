//! A decoder's configuration, in the fields that the engine computes with. The engine never asks for the family's name.

mod attention_bias;
mod dropped;
mod experts;
mod family;
mod linear;
mod scales;

use std::collections::BTreeSet;

use collimate_quantized::QuantizationConfig;
use serde_json::Value;

pub use self::attention_bias::AttentionBias;
pub use self::dropped::Dropped;
pub use self::experts::{ExpertGroups, Experts, RouterScores, SharedExpert};
pub(crate) use self::family::{BiasRule, Defaults, HalfNames, JointNames, TensorNames};
pub use self::family::{Family, GgufFamily, GgufRefusal, GgufValue, Stacking};
pub use self::linear::LinearAttention;
pub use self::scales::{CODEBOOK_FILE, Scales};
use crate::rope::{QueryGrowth, RopeScaling, WindowRope};
use crate::vision::Vision;
use crate::wrapped::{self, PREDICTORS, Wrapper};

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

/// Where the norms of attention and feed-forward layers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlacement {
    /// On the input of each.
    Before,
    /// On the output of each, before it is added to the residual stream.
    After,
    /// On both.
    BeforeAndAfter,
}

/// How queries and keys are normalized (RMSNorm) before rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// Not at all.
    None,
    /// Each head on its own.
    Head,
    /// All heads of a token as one vector.
    Projection,
}

/// Bounds of a gate, `min(gate, limit) σ(alpha · gate) · (clamp(up, ±limit) + 1)`, in place of the activation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClampedGate {
    /// Factor in the sigmoid (`swiglu_alpha`).
    pub alpha: f64,
    /// Upper bound of the gate, and bound of the other factor on both sides (`swiglu_limit`).
    pub limit: f64,
}

/// The checked configuration of a decoder: every size is at least 1, and sizes are consistent.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The family, for names in files and in messages.
    pub family: &'static Family,
    /// The image-and-text architecture around it, if it is the text model of one.
    pub wrapper: Option<&'static Wrapper>,
    /// The tower beside the text model, if it is computed: of any other, images are refused.
    pub vision: Option<Vision>,
    /// How weights of linear layers are packed: as `quantization_config` says, or as whoever reads them asks for.
    pub quantization: Option<QuantizationConfig>,
    /// Weights of the blocks' linear layers that are not packed nevertheless: the files hold plain numbers, or they are unpacked
    /// when they are loaded.
    pub unpacked_weights: BTreeSet<String>,
    /// Whether the weights of the blocks' linear layers stay in their files and are read as they are used.
    pub weights_in_files: bool,
    /// Number of tokens, V.
    pub vocab_size: usize,
    /// Number of conditions: input tokens V, V + 1, …, with an embedding of their own, that are never predicted. A prompt is one
    /// of them. 0 for a language model.
    pub conditions: usize,
    /// Side of the grid of tokens after the condition, if positions are two-dimensional: the first half of a head's pairs, which
    /// are neighboring components, turns with the row and the second with the column, and the condition's query and key vanish.
    pub grid: Option<usize>,
    /// What makes it a model of token maps in several scales, which is computed in another way than a decoder, if it is one.
    pub scales: Option<Scales>,
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
    /// Longest sequence that the model was trained for, in tokens.
    pub max_position_embeddings: usize,
    /// Added to the mean square inside every RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Scaling of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// The rotation of layers with a window, where it is another one.
    pub window_rope: Option<WindowRope>,
    /// How rotated queries grow with their position, if they do; then whole heads are rotated.
    pub query_growth: Option<QueryGrowth>,
    /// How many frequencies turn with time, row and column, where positions have these three axes.
    pub mrope_sections: Option<[usize; 3]>,
    /// Number of leading components of a head that are rotated; even.
    pub rotary_dim: usize,
    /// Whether the output layer is the embedding.
    pub tie_word_embeddings: bool,
    /// Non-linearity of the feed-forward layer.
    pub hidden_act: Activation,
    /// Biases of the attention's projections.
    pub attention_bias: AttentionBias,
    /// Whether the feed-forward layer's projections have biases.
    pub mlp_bias: bool,
    /// Bounds of the gate of the feed-forward layer.
    pub clamped_gate: Option<ClampedGate>,
    /// Factor on attention scores, usually 1/√head_dim.
    pub attention_scale: f64,
    /// c, if attention scores are squashed to c · tanh(score / c).
    pub attention_softcap: Option<f64>,
    /// Whether each head has an attention sink: a trained further score that contributes no value.
    pub attention_sinks: bool,
    /// c, if logits are squashed to c · tanh(logit / c).
    pub logit_softcap: Option<f64>,
    /// Factor on embeddings before the first block.
    pub embedding_scale: Option<f64>,
    /// Factor on the outputs of attention and feed-forward layers that are added to the residual stream.
    pub residual_scale: Option<f64>,
    /// Factor on logits, before they are squashed.
    pub logit_scale: Option<f64>,
    /// Where the norms of a block are.
    pub norm_placement: NormPlacement,
    /// Whether norms multiply by 1 + weight.
    pub norm_offset: bool,
    /// Norms on queries and keys.
    pub qk_norm: QkNorm,
    /// Whether attention's output is multiplied by a sigmoid, whose input stands beside each head's queries.
    pub attention_gate: bool,
    /// Sizes of the layers that have no keys and values, if there are any.
    pub linear_attention: Option<LinearAttention>,
    /// For each layer, whether it is one of those.
    pub linear_layers: Vec<bool>,
    /// Whether queries, keys and values come from one matrix, and gate and up from another.
    pub fused_projections: bool,
    /// Experts in place of a single feed-forward layer.
    pub experts: Option<Experts>,
    /// For each layer, whether it has the experts; all layers of a model without experts.
    pub expert_layers: Vec<bool>,
    /// For each layer, whether queries and keys are rotated.
    pub rotated_layers: Vec<bool>,
    /// For each layer, the sliding window in tokens, the token itself included; `None` for full attention.
    pub layer_windows: Vec<Option<usize>>,
    /// Tokens that end generation: those of `config.json`, then those that only `generation_config.json` has.
    pub eos_token_ids: Vec<u32>,
    /// Token at the beginning of a text.
    pub bos_token_id: Option<u32>,
    /// Standard deviation of fresh weights.
    pub initializer_range: f64,
    /// Storage dtype stated by the file: `float32`, `bfloat16`, `float16`.
    pub dtype: Option<String>,
    /// The original `config.json`, for writing it again.
    pub raw: Value,
    /// What was decided against the file's word, for the user.
    pub notes: Vec<String>,
}

impl ModelConfig {
    /// Length up to which rotary frequencies do not depend on the length of the sequence; `None` for any.
    pub fn longest_sequence(&self) -> Option<usize> {
        let scalings = [Some(&self.rope_scaling), self.window_rope.as_ref().map(|rope| &rope.scaling)];
        let by_grid = self.grid.map(|side| side * side + 1);
        let longest = scalings.into_iter().flatten().filter_map(|scaling| match scaling {
            RopeScaling::Dynamic { .. } => Some(self.max_position_embeddings),
            RopeScaling::Long { original_max_position_embeddings, .. } => Some(*original_max_position_embeddings),
            _ => None,
        });
        longest.chain(by_grid).min()
    }

    /// `model_type` in `config.json`.
    pub fn model_type(&self) -> &'static str {
        self.wrapper.map_or(self.family.model_type, |wrapper| wrapper.model_type)
    }

    /// Prefix of `embed_tokens`, `layers` and `norm` in transformers.
    pub(crate) fn root(&self) -> &'static str {
        self.wrapper.map_or(self.family.names.root, |wrapper| wrapper.root)
    }

    /// Whether its files have tensors beside the model's own that are written again as they are.
    pub fn keeps_others(&self) -> bool {
        self.wrapper.is_some() || self.scales.is_some()
    }

    /// The token of a condition.
    pub fn condition_token(&self, condition: usize) -> Option<u32> {
        (condition < self.conditions).then(|| (self.vocab_size + condition) as u32)
    }

    /// The token of the null condition, which stands for none of the others.
    pub fn null_condition(&self) -> Option<u32> {
        self.condition_token(self.conditions.checked_sub(1)?)
    }

    /// The name of what is below the root.
    pub(crate) fn below_root(&self, name: &str) -> String {
        match self.root() {
            "" => name.to_owned(),
            root => format!("{root}.{name}"),
        }
    }

    /// The experts of a layer; `None` for one with a single feed-forward layer.
    pub fn experts_of(&self, layer: usize) -> Option<Experts> {
        self.experts.filter(|_| self.expert_layers[layer])
    }

    /// The sizes of a layer without keys and values; `None` for one with attention.
    pub fn linear_attention_of(&self, layer: usize) -> Option<LinearAttention> {
        self.linear_attention.filter(|_| self.linear_layers[layer])
    }

    /// The same model with another number of tokens.
    pub fn with_vocab_size(&self, vocab_size: usize) -> Self {
        let mut config = Self { vocab_size, ..self.clone() };
        config.set_raw("vocab_size", vocab_size.into());
        config
    }

    /// The same model with an output layer of its own.
    pub fn untied(&self) -> Self {
        let mut config = Self { tie_word_embeddings: false, ..self.clone() };
        config.set_raw("tie_word_embeddings", false.into());
        // Around a text model, the outer field decides.
        if let (Some(_), Some(object)) = (config.wrapper, config.raw.as_object_mut()) {
            object.insert("tie_word_embeddings".to_owned(), false.into());
        }
        config
    }

    /// The model's own `config.json` with another dtype, under whichever of the two keys it uses, for a folder without the layers
    /// that predict further tokens.
    pub fn raw_with_dtype(&self, dtype: &str) -> Value {
        let mut raw = self.raw.clone();
        if let Some(object) = raw.as_object_mut() {
            let key = if object.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
            object.insert(key.to_owned(), dtype.into());
            if self.wrapper.is_none() && object.contains_key(PREDICTORS) {
                object.insert(PREDICTORS.to_owned(), 0.into());
            }
        }
        // A nested configuration that says it too must not say something else.
        let mut text = raw.get_mut(wrapped::TEXT).filter(|_| self.wrapper.is_some());
        for key in ["torch_dtype", "dtype"] {
            if let Some(stated) = text.as_deref_mut().and_then(|text| text.get_mut(key)) {
                *stated = dtype.into();
            }
        }
        raw
    }

    /// Sets a field, of the text model's own object where it is nested.
    fn set_raw(&mut self, key: &str, value: Value) {
        let is_nested = self.wrapper.is_some() && self.raw.get(wrapped::TEXT).is_some();
        let object = if is_nested { self.raw.get_mut(wrapped::TEXT) } else { Some(&mut self.raw) };
        if let Some(object) = object.and_then(Value::as_object_mut) {
            object.insert(key.to_owned(), value);
        }
    }
}
