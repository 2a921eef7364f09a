//! The tensors of a model of token maps in several scales, with the names and shapes of the published files.

use super::TensorSpec;
use crate::config::{ModelConfig, Scales};

/// All tensors but the buffers, which follow from the sizes.
pub(super) fn tensors(config: &ModelConfig, scales: &Scales) -> Vec<TensorSpec> {
    let (width, inner, heads) = (config.hidden_size, config.intermediate_size, config.num_attention_heads);
    let (length, first) = (scales.num_tokens(), scales.sides[0] * scales.sides[0]);
    let mut specs = vec![
        TensorSpec::new("pos_start", &[1, first, width]),
        TensorSpec::new("pos_1LC", &[1, length, width]),
        TensorSpec::new("class_emb.weight", &[config.conditions, width]),
        TensorSpec::new("lvl_embed.weight", &[scales.sides.len(), width]),
    ];
    let mut linear = |name: &str, outputs: usize, inputs: usize| {
        specs.push(TensorSpec::new(format!("{name}.weight"), &[outputs, inputs]));
        specs.push(TensorSpec::new(format!("{name}.bias"), &[outputs]));
    };
    linear("word_embed", width, scales.codebook_width);
    linear("head_nm.ada_lin.1", 2 * width, width);
    linear("head", config.vocab_size, width);
    if scales.shares_modulation {
        linear("shared_ada_lin.1", 6 * width, width);
    }
    for block in 0..config.num_hidden_layers {
        let root = format!("blocks.{block}");
        if !scales.shares_modulation {
            linear(&format!("{root}.ada_lin.1"), 6 * width, width);
        }
        linear(&format!("{root}.attn.proj"), width, width);
        linear(&format!("{root}.ffn.fc1"), inner, width);
        linear(&format!("{root}.ffn.fc2"), width, inner);
    }
    for block in 0..config.num_hidden_layers {
        let root = format!("blocks.{block}");
        specs.push(TensorSpec::new(format!("{root}.attn.mat_qkv.weight"), &[3 * width, width]));
        specs.extend(["q_bias", "v_bias"].map(|name| TensorSpec::new(format!("{root}.attn.{name}"), &[width])));
        if scales.normalizes_attention {
            specs.push(TensorSpec::new(format!("{root}.attn.scale_mul_1H11"), &[1, heads, 1, 1]));
        }
        if scales.shares_modulation {
            specs.push(TensorSpec::new(format!("{root}.ada_gss"), &[1, 1, 6, width]));
        }
    }
    specs
}
