//! Llama 1 to 3, and the many models of the same form: the family that all others are based on.

use crate::config::{
    Activation, AttentionBias, BiasRule, Defaults, Family, GgufFamily, HalfNames, JointNames, QkNorm, Stacking,
    TensorNames,
};
use crate::{layers, rope};

pub(super) const FAMILY: Family = Family {
    model_type: "llama",
    summary: "Llama 1 to 3 and models of its form",
    gguf: Some(GGUF),
    defaults: DEFAULTS,
    activation: ("hidden_act", Activation::Silu),
    attention_bias: BiasRule::ByField,
    has_mlp_bias: true,
    norm_offset: false,
    qk_norm: QkNorm::None,
    names: NAMES,
    partial_rotation: None,
    rope_object: rope::inner,
    rope_scaling: rope::scaling,
    windows: |fields, _, num_layers| layers::uniform(fields, None, num_layers),
    translate: None,
    read: |_, _| Ok(()),
};

pub(super) const DEFAULTS: Defaults = Defaults {
    vocab_size: 32_000,
    hidden_size: 4096,
    intermediate_size: 11_008,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: None,
    head_dim: None,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-6,
    rope_theta: 10_000.0,
    sliding_window: None,
    tie_word_embeddings: false,
    bos_token_id: Some(1),
    eos_token_id: Some(2),
};

pub(super) const NAMES: TensorNames = TensorNames {
    root: "model",
    embedding: "embed_tokens",
    conditions: None,
    head: "lm_head",
    qkv: JointNames::Apart(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    o: "self_attn.o_proj",
    q_norm: "self_attn.q_norm",
    k_norm: "self_attn.k_norm",
    sinks: "self_attn.sinks",
    gate_up: JointNames::Apart(["mlp.gate_proj", "mlp.up_proj"]),
    down: "mlp.down_proj",
    router: "mlp.gate",
    experts: "mlp.experts",
    expert: ["gate_proj", "up_proj", "down_proj"],
    stacking: Stacking::Apart,
    adapts_experts: true,
    pick_bias: "mlp.gate.e_score_correction_bias",
    shared: "mlp.shared_experts",
    shared_gate: "mlp.shared_expert_gate",
    attention_norms: HalfNames { before: Some("input_layernorm"), after: None },
    feed_forward_norms: HalfNames { before: Some("post_attention_layernorm"), after: None },
};

/// llama.cpp's `llama`, which also computes Mistral and Mixtral.
pub(super) const GGUF: GgufFamily = GgufFamily {
    architecture: "llama",
    interleaved: true,
    activation: Activation::Silu,
    attention_bias: AttentionBias::ALL,
    mlp_bias: true,
    heads_fill_width: false,
    windows: false,
    llama3_scaling: true,
    yarn_keys: false,
    rounds_ramp: false,
    feed_forward_norm: "ffn_norm",
    repeats_tied_output: false,
    attention_divisor: Some(|config| config.head_dim),
    keys: |_| Vec::new(),
    refusal: |_| None,
};

/// What llama.cpp's other architectures have in common: a head's halves rotated as here, no biases, no llama3 scaling.
pub(super) const PLAIN_GGUF: GgufFamily = GgufFamily {
    interleaved: false,
    attention_bias: AttentionBias::NONE,
    mlp_bias: false,
    llama3_scaling: false,
    ..GGUF
};
