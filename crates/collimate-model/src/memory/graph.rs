//! The memory of a model of token maps in several scales, whose pictures go through a graph of plain operations one by one.

use collimate_hf::{ModelConfig, Scales};

/// Numbers that a picture's passes hold, whatever the size of the pack that it is in.
pub(super) fn numbers(config: &ModelConfig, scales: &Scales, is_trained: bool) -> u64 {
    let length = scales.num_tokens() as u64;
    let rows = length * config.hidden_size as u64;
    let inner = length * config.intermediate_size as u64;
    let weights = length * length * config.num_attention_heads as u64;
    let logits = length * config.vocab_size as u64;
    // Scores before and after their mask, without their largest, and their softmax; the parts of a GELU; logits, their
    // exponentials and log-softmax; or the gradients of these.
    let working = (5 * weights + 6 * rows).max(5 * inner + 4 * rows).max(4 * logits);
    if !is_trained {
        return working;
    }
    // The graph keeps factors of products: of attention its exponentials and their softmax; normalized rows before and after
    // their norms; queries, keys and values before and after they are normalized; the parts of a GELU.
    let block = 2 * weights + 18 * rows + 6 * inner;
    config.num_hidden_layers as u64 * block + 3 * logits + working
}
