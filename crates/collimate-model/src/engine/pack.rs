//! The tensors of a pack that all blocks read.

use burn::tensor::{Int, Tensor};
use collimate_backend::{AttentionMap, AttentionShape, FusedOps, Rotary, Segment};
use collimate_hf::ModelConfig;
use collimate_text::GroupBatch;

use crate::host::int_tensor;
use crate::segments::segments;
use collimate_rope::{Rope, Ropes};

/// The tensors of a pack that all blocks read.
pub(crate) struct PackInputs<B: FusedOps> {
    /// Token ids, [N].
    pub(crate) tokens: Tensor<B, 1, Int>,
    pub(crate) rotations: Rotations<B>,
    pub(crate) attention: B::Attention,
    /// What goes on from what, in rows of the pack.
    pub(crate) segments: Vec<Segment>,
}

impl<B: FusedOps> PackInputs<B> {
    pub(crate) fn new(batch: &GroupBatch, config: &ModelConfig, ropes: &Ropes, device: &B::Device) -> Self {
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
            rotations: match batch.axes.is_empty() {
                true => Rotations::new(ropes, &positions, device),
                false => {
                    let mut axes = batch.axes.clone();
                    axes.resize(padded, [0; 3]);
                    Rotations::on_axes(ropes, &axes, device)
                }
            },
            attention: AttentionMap::new(&segments, &attention_shape(config, 0), &config.layer_windows, device),
            segments,
        }
    }
}

/// Cosines and sines of positions, by kind of layer.
pub(crate) struct Rotations<B: FusedOps> {
    full: Turn<B>,
    /// Of layers with a window, where it is another one.
    windows: Option<Turn<B>>,
}

/// Cosines and sines for keys, and for queries where those grow with their position.
struct Turn<B: FusedOps> {
    keys: Rotary<B>,
    queries: Option<Rotary<B>>,
}

impl<B: FusedOps> Rotations<B> {
    pub(crate) fn new(ropes: &Ropes, positions: &[u32], device: &B::Device) -> Self {
        let factors = ropes.query_factors(positions);
        let turn = |rope: &Rope| {
            let (cos, sin) = rope.tables(positions);
            let rotary = |cos, sin| Rotary::new(cos, sin, positions.len(), rope.head_dim, device);
            // A factor on a whole query is one on the cosines and sines that it is rotated by, forward and backward.
            let grown = |table: &[f32], factors: &[f32]| -> Vec<f32> {
                let rows = table.chunks_exact(table.len() / positions.len().max(1)).zip(factors);
                rows.flat_map(|(row, factor)| row.iter().map(move |x| x * factor)).collect()
            };
            let queries = factors.as_ref().map(|factors| rotary(grown(&cos, factors), grown(&sin, factors)));
            Turn { keys: rotary(cos, sin), queries }
        };
        Self { full: turn(&ropes.full), windows: ropes.windows.as_ref().map(turn) }
    }

    /// Of positions in time, row and column.
    fn on_axes(ropes: &Ropes, positions: &[[u32; 3]], device: &B::Device) -> Self {
        let (cos, sin) = ropes.tables_on_axes(positions);
        let keys = Rotary::new(cos, sin, positions.len(), ropes.full.head_dim, device);
        Self { full: Turn { keys, queries: None }, windows: None }
    }

    /// Those of a layer's queries and of its keys.
    pub(crate) fn of_layer(&self, config: &ModelConfig, layer: usize) -> [&Rotary<B>; 2] {
        let windows = self.windows.as_ref().filter(|_| config.layer_windows[layer].is_some());
        let turn = windows.unwrap_or(&self.full);
        [turn.queries.as_ref().unwrap_or(&turn.keys), &turn.keys]
    }
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
