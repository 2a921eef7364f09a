//! The memory of a block's first half: attention, or a Gated DeltaNet.

use collimate_hf::{LinearAttention, ModelConfig, QkNorm};

/// Tokens for which the backward pass of a state holds one.
const CHUNK: u64 = 64;

/// Numbers of elements per token of a block's first half.
#[derive(Clone, Copy)]
pub(super) struct FirstHalf {
    /// In its activations.
    pub(super) kept: u64,
    /// In its temporaries.
    pub(super) working: u64,
    /// Linear layers beyond the four of attention.
    pub(super) more_linears: u64,
}

impl FirstHalf {
    /// The larger of each, where some blocks have attention and others a state.
    pub(super) fn largest(config: &ModelConfig) -> Self {
        let attention = Self::attention(config);
        let Some(sizes) = config.linear_attention else { return attention };
        let delta = Self::delta(sizes);
        Self {
            kept: attention.kept.max(delta.kept),
            working: attention.working.max(delta.working),
            more_linears: attention.more_linears.max(delta.more_linears),
        }
    }

    fn attention(config: &ModelConfig) -> Self {
        let heads = (config.num_attention_heads * config.head_dim) as u64;
        let kv_heads = (config.num_key_value_heads * config.head_dim) as u64;
        let head_norms = if config.qk_norm == QkNorm::None { 0 } else { heads + kv_heads };
        let gate = if config.attention_gate { heads } else { 0 };
        // Queries and the output, keys and values, and a log-sum-exp for each head; a gate stands beside the queries until
        // they are taken apart.
        Self {
            kept: 2 * heads + 2 * kv_heads + head_norms + gate + config.num_attention_heads as u64,
            working: 2 * heads + 2 * kv_heads + 3 * gate,
            more_linears: 0,
        }
    }

    fn delta(sizes: LinearAttention) -> Self {
        let LinearAttention { value_heads, key_dim, value_dim, .. } = sizes;
        let (width, values, heads) = (sizes.width() as u64, sizes.values_width() as u64, value_heads as u64);
        // What a head's task computes of each row, and the states at the starts of its chunks.
        let rows = 2 * key_dim as u64 + value_dim as u64 + 2;
        let states = ((key_dim * value_dim) as u64).div_ceil(CHUNK);
        Self {
            // Inputs of the convolution and of the delta rule, the gate and the output, and the decays.
            kept: 2 * width + 2 * values + 3 * heads,
            working: 2 * width + 4 * values + heads * (rows + states),
            more_linears: 1,
        }
    }
}
