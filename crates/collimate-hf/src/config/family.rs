//! Everything that distinguishes one family of models from another.

use std::fmt;

use serde_json::Value;

use super::{Activation, AttentionBias, ModelConfig, NormPlacement, QkNorm};
use crate::error::HfError;
use crate::fields::Fields;
use crate::rope::{RopeFields, RopeScaling};

/// A family of models, and everything that distinguishes it from others.
///
/// Each is a file in `families/`, written as a difference from another family:
/// `Family { qk_norm: QkNorm::Head, ..llama::FAMILY }`.
#[derive(Clone, Copy)]
pub struct Family {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// A description in terms of another family, for the documentation.
    pub summary: &'static str,
    /// Its counterpart in llama.cpp, if any.
    pub gguf: Option<GgufFamily>,
    /// Values of absent fields.
    pub(crate) defaults: Defaults,
    /// The field that names the activation, and the activation if the field is absent.
    pub(crate) activation: (&'static str, Activation),
    /// Which projections of the attention have a bias.
    pub(crate) attention_bias: BiasRule,
    /// Whether the family has the field `mlp_bias`.
    pub(crate) has_mlp_bias: bool,
    /// Whether norms multiply by 1 + weight.
    pub(crate) norm_offset: bool,
    /// Norms on queries and keys.
    pub(crate) qk_norm: QkNorm,
    /// Names of its tensors.
    pub(crate) names: TensorNames,
    /// The share of a head that is rotated if a file does not say; `None` where the whole head always is.
    pub(crate) partial_rotation: Option<f64>,
    /// The object that describes the rotation.
    pub(crate) rope_object: RopeObject,
    /// Reads the scaling of the rotary frequencies.
    pub(crate) rope_scaling: fn(RopeFields<'_>) -> Result<RopeScaling, HfError>,
    /// Reads the window of each layer.
    pub(crate) windows: WindowRule,
    /// Gives a configuration whose fields have other names those of `llama`, after checking them by their own.
    pub(crate) translate: Option<fn(Fields<'_>) -> Result<Value, HfError>>,
    /// Reads the fields that only this family has, after everything else.
    pub(crate) read: fn(Fields<'_>, &mut ModelConfig) -> Result<(), HfError>,
}

/// Finds the object that describes the rotation, of layers without a window if there are two.
pub(crate) type RopeObject = for<'a> fn(Fields<'a>) -> Result<Option<Fields<'a>>, HfError>;

/// Reads the window of each layer, given [`Defaults::sliding_window`] and the number of layers.
pub(crate) type WindowRule = fn(Fields<'_>, Option<usize>, usize) -> Result<Vec<Option<usize>>, HfError>;

/// Values of absent fields: those of transformers' configuration class.
#[derive(Clone, Copy)]
pub(crate) struct Defaults {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    /// None: as many as query heads.
    pub(crate) num_key_value_heads: Option<usize>,
    /// None: `hidden_size / num_attention_heads`.
    pub(crate) head_dim: Option<usize>,
    pub(crate) max_position_embeddings: usize,
    pub(crate) rms_norm_eps: f64,
    pub(crate) rope_theta: f64,
    pub(crate) sliding_window: Option<usize>,
    pub(crate) tie_word_embeddings: bool,
    pub(crate) bos_token_id: Option<u32>,
    pub(crate) eos_token_id: Option<u32>,
}

/// How a family decides which projections of the attention have a bias.
#[derive(Clone, Copy)]
pub(crate) enum BiasRule {
    /// Always these, whatever the file says.
    Always(AttentionBias),
    /// All or none, by the field `attention_bias`.
    ByField,
}

/// Names of a family's tensors, without `.weight` or `.bias`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TensorNames {
    /// Prefix of the embedding, `layers` and `norm`; empty if they have none.
    pub(crate) root: &'static str,
    /// The embedding of tokens, below the root.
    pub(crate) embedding: &'static str,
    /// The embedding of conditions, if the family has any. The whole name.
    pub(crate) conditions: Option<&'static str>,
    /// The output layer. The whole name.
    pub(crate) head: &'static str,
    pub(crate) qkv: JointNames<3>,
    pub(crate) o: &'static str,
    pub(crate) q_norm: &'static str,
    pub(crate) k_norm: &'static str,
    /// The whole name, since it is no module.
    pub(crate) sinks: &'static str,
    pub(crate) gate_up: JointNames<2>,
    pub(crate) down: &'static str,
    pub(crate) router: &'static str,
    /// Prefix of an expert's number.
    pub(crate) experts: &'static str,
    /// Gate, up and down, after an expert's number.
    pub(crate) expert: [&'static str; 3],
    /// How experts are divided into tensors.
    pub(crate) stacking: Stacking,
    /// Whether PEFT takes the names of the router and the experts, which transformers 5 has no modules for, for parameters.
    pub(crate) adapts_experts: bool,
    /// The bias of the router's picks. The whole name, since it is no module.
    pub(crate) pick_bias: &'static str,
    /// Prefix of gate, up and down of the layer beside the experts.
    pub(crate) shared: &'static str,
    /// The gate on that layer's output.
    pub(crate) shared_gate: &'static str,
    /// Norms before and after the attention.
    pub(crate) attention_norms: HalfNames,
    /// Norms before and after the feed-forward layer.
    pub(crate) feed_forward_norms: HalfNames,
}

/// How the experts of a block are divided into tensors of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stacking {
    /// A tensor for each matrix; or two for all experts, `gate_up_proj` [E, 2 · inner, D], gates above ups, and `down_proj`
    /// [E, D, inner], as some files have them.
    Apart,
    /// Two tensors for all experts, `gate_up_proj` [E, D, 2 · inner], whose columns are gate and up in turn, and `down_proj`
    /// [E, inner, D]; and their biases.
    Interleaved,
}

/// Names of projections that read the same input.
#[derive(Debug, Clone, Copy)]
pub(crate) enum JointNames<const N: usize> {
    /// A matrix for each.
    Apart([&'static str; N]),
    /// One matrix for all.
    Fused(&'static str),
}

/// Names of the norms around half a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HalfNames {
    pub(crate) before: Option<&'static str>,
    pub(crate) after: Option<&'static str>,
}

impl Family {
    /// Whether the tensors of a configuration's family have other names than a language model's, which no wrapper of
    /// transformers has changed.
    pub fn names_are_its_own(config: &Value) -> bool {
        let family = config.get("model_type").and_then(Value::as_str).and_then(Self::from_model_type);
        family.is_some_and(|family| family.names.root.is_empty())
    }

    /// The field of `config.json` that names the activation.
    pub fn activation_key(&self) -> &'static str {
        self.activation.0
    }

    /// The router's module, within a block.
    pub fn router_name(&self) -> &'static str {
        self.names.router
    }

    /// What precedes the number of an expert, within a block.
    pub fn experts_name(&self) -> &'static str {
        self.names.experts
    }

    /// How the experts of a block are divided into tensors of a file.
    pub fn stacking(&self) -> Stacking {
        self.names.stacking
    }

    /// Whether PEFT adapts the router and the experts by their names, though transformers 5 has no modules of these names.
    pub fn adapts_experts(&self) -> bool {
        self.names.adapts_experts
    }

    /// Gate, up and down of an expert, after its number.
    pub fn expert_names(&self) -> [&'static str; 3] {
        self.names.expert
    }
}

impl TensorNames {
    /// Where the norms of a block are.
    pub(crate) fn norm_placement(&self) -> NormPlacement {
        match (self.attention_norms.before, self.attention_norms.after) {
            (_, None) => NormPlacement::Before,
            (None, Some(_)) => NormPlacement::After,
            (Some(_), Some(_)) => NormPlacement::BeforeAndAfter,
        }
    }
}

/// A family's counterpart in llama.cpp, and what that lacks.
#[derive(Clone, Copy)]
pub struct GgufFamily {
    /// llama.cpp's name of the architecture.
    pub architecture: &'static str,
    /// Whether it rotates neighboring components of a head instead of its halves.
    pub interleaved: bool,
    /// The only activation that it computes.
    pub activation: Activation,
    /// Biases of the attention that it reads.
    pub attention_bias: AttentionBias,
    /// Whether it reads biases of the feed-forward layer.
    pub mlp_bias: bool,
    /// Whether all heads together must be as wide as the hidden states.
    pub heads_fill_width: bool,
    /// Whether it supports windows; if not, long texts come out differently and the export has a note.
    pub windows: bool,
    /// Whether it supports llama3's scaling of the rotary frequencies.
    pub llama3_scaling: bool,
    /// Whether files say where YaRN's ramp ends and what its factor on attention is made of.
    pub yarn_keys: bool,
    /// Whether a model is exported although llama.cpp rounds the ends of its YaRN ramp: the publisher's own files are like that.
    pub rounds_ramp: bool,
    /// Its name of the norm before the feed-forward layer.
    pub feed_forward_norm: &'static str,
    /// Whether it needs the output layer of a tied model repeated.
    pub repeats_tied_output: bool,
    /// n, if it scales attention by 1/√n; `None` if a key has the scale.
    pub attention_divisor: Option<fn(&ModelConfig) -> usize>,
    /// Further keys, without the architecture's prefix.
    pub keys: fn(&ModelConfig) -> Vec<(&'static str, GgufValue)>,
    /// Anything else that it would compute differently.
    pub refusal: fn(&ModelConfig) -> Option<GgufRefusal>,
}

/// The value of a further key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum GgufValue {
    /// An integer.
    Count(usize),
    /// A floating-point number.
    Number(f64),
    /// A truth value.
    Flag(bool),
}

/// A field that llama.cpp has no counterpart for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufRefusal {
    /// The field of `config.json`, dotted where nested.
    pub field: &'static str,
    /// What llama.cpp does instead: `it always squashes`.
    pub instead: &'static str,
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.model_type == other.model_type
    }
}

impl Eq for Family {}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Family").field(&self.model_type).finish()
    }
}
