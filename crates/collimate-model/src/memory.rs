//! How much memory a pass needs, from the shapes of the model.

use collimate_backend::FusedOps;

use crate::causal_lm::CausalLm;

/// Bytes of one float32 number.
const FLOAT: u64 = 4;

/// What training holds, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryCosts {
    /// Parameters, and for those that are trained the gradient and AdamW's two moments.
    pub resident: u64,
    /// A token of a pack whatever is kept: the input of every block, and what the block at work needs.
    pub per_token: u64,
    /// A token of a pack more for every block that keeps what its way back reads.
    pub per_kept_block: u64,
    /// Number of blocks.
    pub num_blocks: usize,
}

impl<B: FusedOps> CausalLm<B> {
    /// What training this model holds.
    pub fn memory_costs(&self) -> MemoryCosts {
        let config = &self.config;
        let size = |index: usize| self.layout.infos[index].file_shape.iter().product::<usize>() as u64;
        let parameters: u64 = (0..self.params.len()).map(size).sum();
        let trained: u64 = self.trainable().into_iter().map(size).sum();
        let width = config.hidden_size as u64;
        let inner = config.intermediate_size as u64;
        let heads = (config.num_attention_heads * config.head_dim) as u64;
        let kv_heads = (config.num_key_value_heads * config.head_dim) as u64;
        let ranks = self.lora().map_or(0, |lora| 7 * lora.r as u64);
        let head_norms = if self.layout.layers.iter().any(|ids| ids.q_norm.is_some()) { heads + kv_heads } else { 0 };
        // Queries and the attention's output, keys and values, the stream between the halves, gate and up.
        let block =
            2 * heads + 2 * kv_heads + head_norms + width + 2 * inner + ranks + config.num_attention_heads as u64;
        // The block at work: its activations if it runs again, the gated product and its gradient, gradients of
        // queries, keys, values and of the stream; and at the output layer three times the rows that predict a token.
        let work = block + 2 * inner + 2 * heads + 2 * kv_heads + 9 * width;
        MemoryCosts {
            resident: FLOAT * (parameters + 3 * trained),
            per_token: FLOAT * (config.num_hidden_layers as u64 * width + work),
            per_kept_block: FLOAT * block,
            num_blocks: config.num_hidden_layers,
        }
    }
}
