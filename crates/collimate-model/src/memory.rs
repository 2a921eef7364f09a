//! How much memory a pass needs, from the shapes of the model.

use collimate_backend::FusedOps;

use crate::causal_lm::CausalLm;
use crate::config::NormPlacement;

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
        let head_norms = if self.layout.layers.iter().any(|ids| ids.q_norm.is_some()) { heads + kv_heads } else { 0 };
        let output_norms = if config.norm_placement == NormPlacement::Before { 0 } else { 2 * width };
        let (gates, router, linears) = match config.experts {
            None => (2 * inner, 0, 7),
            // What a token's experts keep; probabilities and weights of all of them.
            Some(experts) => {
                let picked = experts.per_token as u64;
                (picked * 2 * inner, 2 * experts.count as u64 + picked, 5 + 3 * picked)
            }
        };
        let ranks = self.lora().map_or(0, |lora| linears * lora.r as u64);
        // Queries and the attention's output, keys and values, the stream between the halves, gate and up, and outputs
        // that are normalised.
        let block = 2 * heads
            + 2 * kv_heads
            + head_norms
            + width
            + output_norms
            + gates
            + router
            + ranks
            + config.num_attention_heads as u64;
        // A fused product stands beside its parts; of experts one may get every token.
        let fused = if config.fused_projections { (heads + 2 * kv_heads).max(2 * inner) } else { 0 };
        let gathered = if config.experts.is_some() { 2 * inner + 4 * width } else { 0 };
        // The block at work: its activations if it runs again, the gated product and its gradient, gradients of
        // queries, keys, values and of the stream; and at the output layer three times the rows that predict a token.
        let work = block + 2 * inner + 2 * heads + 2 * kv_heads + 9 * width + output_norms + fused + gathered;
        MemoryCosts {
            resident: FLOAT * (parameters + 3 * trained),
            per_token: FLOAT * (config.num_hidden_layers as u64 * width + work),
            per_kept_block: FLOAT * block,
            num_blocks: config.num_hidden_layers,
        }
    }
}
