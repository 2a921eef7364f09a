//! The tensors of a pack that all blocks read.

use burn::tensor::{Int, Tensor};
use collimate_backend::{AttentionMap, AttentionShape, FusedOps, Rotary, Segment};
use collimate_hf::ModelConfig;
use collimate_text::GroupBatch;

use crate::host::int_tensor;
use crate::rope::Rope;
use crate::segments::segments;

/// The tensors of a pack that all blocks read.
pub(crate) struct PackInputs<B: FusedOps> {
    /// Token ids, [N].
    pub(crate) tokens: Tensor<B, 1, Int>,
    pub(crate) rotary: Rotary<B>,
    pub(crate) attention: B::Attention,
}

impl<B: FusedOps> PackInputs<B> {
    pub(crate) fn new(batch: &GroupBatch, config: &ModelConfig, rope: &Rope, device: &B::Device) -> Self {
        let num_rows = batch.num_tokens();
        // Padding rows attend only to each other and their output is ignored. Skipped for mixtures of experts, whose router
        // would count them.
        let padded = if config.experts.is_some() { num_rows } else { B::pack_rows(num_rows) };
        let (mut tokens, mut positions) = (batch.tokens.clone(), batch.positions.clone());
        tokens.resize(padded, 0);
        positions.resize(padded, 0);
        let mut segments = segments(batch);
        if padded > num_rows {
            segments.push(Segment { context: 0..0, rows: num_rows..padded });
        }
        Self {
            tokens: int_tensor(&tokens, device),
            rotary: rotary(rope, &positions, device),
            attention: AttentionMap::new(&segments, &attention_shape(config, 0), &config.layer_windows, device),
        }
    }
}

/// Cosines and sines of positions.
pub(crate) fn rotary<B: FusedOps>(rope: &Rope, positions: &[u32], device: &B::Device) -> Rotary<B> {
    let (cos, sin) = rope.tables(positions);
    Rotary::new(cos, sin, positions.len(), rope.head_dim, device)
}

/// Sizes and options of a layer's attention.
pub(crate) fn attention_shape(config: &ModelConfig, layer: usize) -> AttentionShape {
    AttentionShape {
        heads: config.num_attention_heads,
        kv_heads: config.num_key_value_heads,
        head_dim: config.head_dim,
        scale: config.attention_scale as f32,
        window: config.layer_windows[layer],
        softcap: config.attention_softcap.map(|cap| cap as f32),
    }
}
