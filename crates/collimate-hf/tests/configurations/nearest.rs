//! What is said of a family that is not known.

use rstest::rstest;
use serde_json::{Value, json};

use crate::{message, read};

/// Configurations as published, shortened to what says how a model is computed.
#[rstest]
// CohereForAI/c4ai-command-r7b-12-2024.
#[case(
    json!({
        "model_type": "cohere2", "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336, "layer_norm_eps": 1e-05,
        "layer_switch": 4, "logit_scale": 0.25, "max_position_embeddings": 8192, "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 8, "order_of_interleaved_layers": "local_attn_first",
        "position_embedding_type": "rope_gptj", "rope_theta": 50000, "sliding_window": 4096, "use_embedding_sharing": true,
        "use_gated_activation": true, "use_parallel_block": true, "use_parallel_embedding": true, "vocab_size": 256000,
    }),
    "the nearest is mistral, which does not know"
)]
// Qwen/Qwen1.5-MoE-A2.7B.
#[case(
    json!({
        "model_type": "qwen2_moe", "decoder_sparse_step": 1, "hidden_act": "silu", "hidden_size": 2048,
        "intermediate_size": 5632, "max_position_embeddings": 8192, "moe_intermediate_size": 1408, "norm_topk_prob": false,
        "num_attention_heads": 16, "num_experts": 60, "num_experts_per_tok": 4, "num_hidden_layers": 24,
        "num_key_value_heads": 16, "output_router_logits": false, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
        "router_aux_loss_coef": 0.001, "shared_expert_intermediate_size": 5632, "sliding_window": 32768,
        "tie_word_embeddings": false, "use_sliding_window": false, "vocab_size": 151936,
    }),
    "the nearest is qwen3_moe, which does not know \"shared_expert_intermediate_size\""
)]
fn the_nearest_is_named_and_what_it_does_not_know(#[case] config: Value, #[case] expected: &str) {
    let error = read(config).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_new_name_for_what_is_known_is_told_so() {
    let error = message(json!({ "model_type": "llama_of_tomorrow" }));
    assert!(
        error.contains("is not supported; the nearest is llama, which knows all of its fields; supported:"),
        "{error}"
    );
}
