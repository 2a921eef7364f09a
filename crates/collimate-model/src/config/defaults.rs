//! What a field of `config.json` is where the file does not say.
//!
//! These are the values of transformers' configuration classes (`LlamaConfig`, `MistralConfig`, ...).

use super::Architecture;

/// What a field is where the file does not say, for one architecture.
pub(super) struct Defaults {
    pub(super) vocab_size: usize,
    pub(super) hidden_size: usize,
    pub(super) intermediate_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    /// None: as many as query heads.
    pub(super) num_key_value_heads: Option<usize>,
    /// None: `hidden_size / num_attention_heads`.
    pub(super) head_dim: Option<usize>,
    pub(super) max_position_embeddings: usize,
    pub(super) rms_norm_eps: f64,
    pub(super) rope_theta: f64,
    pub(super) sliding_window: Option<usize>,
    pub(super) tie_word_embeddings: bool,
    pub(super) bos_token_id: Option<u32>,
    pub(super) eos_token_id: Option<u32>,
}

const LLAMA: Defaults = Defaults {
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

const MISTRAL: Defaults = Defaults {
    intermediate_size: 14_336,
    num_key_value_heads: Some(8),
    max_position_embeddings: 4096 * 32,
    sliding_window: Some(4096),
    ..LLAMA
};

const QWEN2: Defaults = Defaults {
    vocab_size: 151_936,
    intermediate_size: 22_016,
    num_key_value_heads: Some(32),
    max_position_embeddings: 32_768,
    sliding_window: Some(4096),
    bos_token_id: None,
    eos_token_id: None,
    ..LLAMA
};

pub(super) fn defaults(architecture: Architecture) -> Defaults {
    match architecture {
        Architecture::Llama => LLAMA,
        Architecture::Mistral => MISTRAL,
        Architecture::Mixtral => {
            Defaults { rms_norm_eps: 1e-5, rope_theta: 1_000_000.0, sliding_window: None, ..MISTRAL }
        }
        Architecture::Qwen2 => QWEN2,
        Architecture::Qwen3 => Defaults { head_dim: Some(128), ..QWEN2 },
        Architecture::Gemma2 => GEMMA2,
        Architecture::Phi3 => Defaults {
            vocab_size: 32_064,
            hidden_size: 3072,
            intermediate_size: 8192,
            max_position_embeddings: 4096,
            rms_norm_eps: 1e-5,
            eos_token_id: Some(32_000),
            ..LLAMA
        },
        Architecture::Olmo2 => {
            Defaults { vocab_size: 50_304, rms_norm_eps: 1e-5, bos_token_id: None, eos_token_id: Some(50_279), ..LLAMA }
        }
        Architecture::SmolLm3 => SMOLLM3,
    }
}

const GEMMA2: Defaults = Defaults {
    vocab_size: 256_000,
    hidden_size: 2304,
    intermediate_size: 9216,
    num_hidden_layers: 26,
    num_attention_heads: 8,
    num_key_value_heads: Some(4),
    head_dim: Some(256),
    max_position_embeddings: 8192,
    sliding_window: Some(4096),
    tie_word_embeddings: true,
    bos_token_id: Some(2),
    eos_token_id: Some(1),
    ..LLAMA
};

const SMOLLM3: Defaults = Defaults {
    vocab_size: 128_256,
    hidden_size: 2048,
    num_hidden_layers: 36,
    num_attention_heads: 16,
    num_key_value_heads: Some(4),
    max_position_embeddings: 32_768,
    rope_theta: 2_000_000.0,
    tie_word_embeddings: true,
    bos_token_id: Some(128_000),
    eos_token_id: Some(128_001),
    ..LLAMA
};
