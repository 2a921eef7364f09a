//! What llama.cpp must know of the model's configuration, and what it has no counterpart of.

use std::path::Path;

use serde_json::Value as Json;

use super::format::{Entry, Value};
use crate::config::{Activation, Architecture, AttentionBias, ModelConfig, RopeScaling};
use crate::error::ModelError;

/// Layers of the only Gemma 2 whose attention llama.cpp scales by the width instead of the head.
const GEMMA2_27B_LAYERS: usize = 46;
/// Where llama.cpp's YaRN begins and ends to stretch, in rotations over the original context; it reads no other ones.
const YARN_BETAS: [f64; 2] = [32.0, 1.0];
/// llama.cpp's SmolLM3 leaves every fourth layer without rotation, whatever a file says.
const SMOLLM3_INTERVAL: usize = 4;

/// A model's configuration, and the file that errors name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Model<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) path: &'a Path,
}

impl Model<'_> {
    /// llama.cpp's name of the architecture.
    pub(super) fn name(&self) -> &'static str {
        match self.config.architecture {
            // Both are Llama in another size to llama.cpp, Mixtral with experts.
            Architecture::Mistral | Architecture::Mixtral => "llama",
            other => other.name(),
        }
    }

    /// Whether llama.cpp turns neighbours of a head, and not its halves.
    pub(super) fn interleaves(&self) -> bool {
        matches!(self.name(), "llama" | "smollm3")
    }

    /// Refuses what llama.cpp would compute otherwise whatever is written, and notes what it does for long texts only.
    pub(super) fn check(&self, notes: &mut Vec<String>) -> Result<(), ModelError> {
        self.check_layers(notes)?;
        self.check_attention()?;
        self.check_rotation()?;
        if let RopeScaling::Long { original_max_position_embeddings: original, .. } = self.config.rope_scaling {
            notes.push(format!(
                "llama.cpp takes the factors of long texts for short ones too once its own context (--ctx-size) is longer \
                 than {original} tokens: short texts are the same up to that size"
            ));
        }
        Ok(())
    }

    fn check_layers(&self, notes: &mut Vec<String>) -> Result<(), ModelError> {
        let config = self.config;
        let gemma2 = config.architecture == Architecture::Gemma2;
        let expected = if gemma2 { Activation::GeluTanh } else { Activation::Silu };
        if config.hidden_act != expected {
            let field = if gemma2 { "hidden_activation" } else { "hidden_act" };
            return Err(self.refused(field, &format!("{expected:?} is its only activation")));
        }
        if gemma2 && !config.tie_word_embeddings {
            return Err(self.refused("tie_word_embeddings", "its output layer is the embedding"));
        }
        let skipping = |layer: usize| !(layer + 1).is_multiple_of(SMOLLM3_INTERVAL);
        let smollm3 = config.architecture == Architecture::SmolLm3;
        if smollm3 && config.rotated_layers.iter().enumerate().any(|(layer, rotated)| *rotated != skipping(layer)) {
            return Err(self.refused("no_rope_layers", "every fourth layer goes without rotation, and no other"));
        }
        if gemma2 {
            let windowed = |(layer, window): (usize, &Option<usize>)| window.is_some() == layer.is_multiple_of(2);
            return match config.layer_windows.iter().enumerate().all(windowed) {
                true => Ok(()),
                false => Err(self.refused("layer_types", "every other layer has a window, the first one too")),
            };
        }
        if let Some(window) = config.layer_windows.iter().flatten().min() {
            notes.push(format!(
                "llama.cpp has no window of {window} tokens in {}: it computes something else beyond that length",
                self.name()
            ));
        }
        Ok(())
    }

    fn check_attention(&self) -> Result<(), ModelError> {
        let config = self.config;
        let AttentionBias { q, k, v, o } = config.attention_bias;
        let biased = match self.name() {
            "llama" => false,
            "qwen2" => o,
            _ => q || k || v || o,
        };
        if biased {
            return Err(self.refused("attention_bias", "it reads no such biases"));
        }
        if config.mlp_bias && self.name() != "llama" {
            return Err(self.refused("mlp_bias", "it reads no such biases"));
        }
        let width = config.head_dim * config.num_attention_heads;
        if matches!(self.name(), "qwen2" | "phi3" | "olmo2") && width != config.hidden_size {
            return Err(self.refused("head_dim", "all heads together are as wide as the hidden states"));
        }
        let gemma2 = config.architecture == Architecture::Gemma2;
        let divisor = match gemma2 && config.num_hidden_layers == GEMMA2_27B_LAYERS {
            true => config.hidden_size / config.num_attention_heads,
            false => config.head_dim,
        };
        if (config.attention_scale * (divisor as f64).sqrt() - 1.0).abs() > 1e-6 {
            return Err(self.refused("query_pre_attn_scalar", &format!("its attention is scaled by 1/√{divisor}")));
        }
        if gemma2 {
            for (field, cap) in [
                ("attn_logit_softcapping", config.attention_softcap),
                ("final_logit_softcapping", config.logit_softcap),
            ] {
                if cap.is_none() {
                    return Err(self.refused(field, "it always squashes"));
                }
            }
        }
        Ok(())
    }

    fn check_rotation(&self) -> Result<(), ModelError> {
        match &self.config.rope_scaling {
            RopeScaling::Dynamic { .. } => Err(self.refused("rope_scaling.rope_type", "it has no dynamic scaling")),
            RopeScaling::Llama3 { .. } if self.name() != "llama" => {
                Err(self.refused("rope_scaling.rope_type", "it has llama3 scaling for llama alone"))
            }
            RopeScaling::Yarn { truncate: false, .. } => {
                Err(self.refused("rope_scaling.truncate", "its ramp has whole ends"))
            }
            RopeScaling::Yarn { beta_fast, .. } if *beta_fast != YARN_BETAS[0] => {
                Err(self.refused("rope_scaling.beta_fast", "it is 32"))
            }
            RopeScaling::Yarn { beta_slow, .. } if *beta_slow != YARN_BETAS[1] => {
                Err(self.refused("rope_scaling.beta_slow", "it is 1"))
            }
            RopeScaling::Yarn { factor, attention_factor, mscale, mscale_all_dim, .. } => {
                // llama.cpp multiplies what a file says by this itself.
                let own = if *factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 };
                let other = attention_factor.is_some_and(|given| (given - own).abs() > 1e-6);
                match other || mscale.is_some() || mscale_all_dim.is_some() {
                    true => Err(self.refused("rope_scaling.attention_factor", "it is 0.1 ln(factor) + 1")),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// The keys of the architecture.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, ModelError> {
        let config = self.config;
        let key = |name: &str| format!("{}.{name}", self.name());
        let count = |name: &str, value: usize| Entry::count(&key(name), value);
        let number = |name: &str, value: f64| Entry::number(&key(name), value);
        let mut entries = vec![
            count("vocab_size", config.vocab_size),
            count("block_count", config.num_hidden_layers),
            count("context_length", config.max_position_embeddings),
            count("embedding_length", config.hidden_size),
            count("feed_forward_length", config.intermediate_size),
            count("attention.head_count", config.num_attention_heads),
            count("attention.head_count_kv", config.num_key_value_heads),
            count("attention.key_length", config.head_dim),
            count("attention.value_length", config.head_dim),
            number("attention.layer_norm_rms_epsilon", config.rms_norm_eps),
            count("rope.dimension_count", config.rotary_dim),
            number("rope.freq_base", config.rope_theta),
        ];
        let window = config.layer_windows.iter().flatten().min().copied();
        if let Some(window) = window.or((config.architecture == Architecture::Phi3).then_some(0)) {
            // 0 tells a Phi-3 without a window from one of the first files, which did not say.
            entries.push(count("attention.sliding_window", window));
        }
        entries.extend(config.attention_softcap.map(|cap| number("attn_logit_softcapping", cap)));
        entries.extend(config.logit_softcap.map(|cap| number("final_logit_softcapping", cap)));
        if let Some(experts) = config.experts {
            entries.push(count("expert_count", experts.count));
            entries.push(count("expert_used_count", experts.per_token));
        }
        entries.extend(self.scaling());
        Ok(entries)
    }

    /// The keys of a rotation that is stretched.
    fn scaling(&self) -> Vec<Entry> {
        let key = |name: &str| format!("{}.rope.scaling.{name}", self.name());
        let kind = |kind: &str| Entry::list(&key("type"), Value::Text(kind.to_owned()));
        let original = |tokens: usize| Entry::count(&key("original_context_length"), tokens);
        match &self.config.rope_scaling {
            RopeScaling::Linear { factor } => vec![kind("linear"), Entry::number(&key("factor"), *factor)],
            RopeScaling::Yarn { factor, original_max_position_embeddings, .. } => {
                vec![kind("yarn"), Entry::number(&key("factor"), *factor), original(*original_max_position_embeddings)]
            }
            RopeScaling::Long { original_max_position_embeddings, attention_factor, .. } => vec![
                kind("longrope"),
                original(*original_max_position_embeddings),
                Entry::number(&key("attn_factor"), *attention_factor),
            ],
            // Llama 3.1's is a tensor.
            _ => Vec::new(),
        }
    }

    /// LongRoPE's factors for long texts, which nothing here computes with.
    pub(super) fn long_factors(&self) -> Result<Vec<f32>, ModelError> {
        let field = "long_factor";
        let inner = ["rope_scaling", "rope_parameters"].iter().find_map(|key| self.config.raw.get(key)?.get(field));
        let list = inner.and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        let factors: Option<Vec<f32>> = list.iter().map(|factor| Some(factor.as_f64()? as f32)).collect();
        let expected = self.config.rotary_dim / 2;
        match factors.filter(|factors| factors.len() == expected) {
            Some(factors) => Ok(factors),
            None => Err(ModelError::Field {
                path: self.path.to_owned(),
                field: format!("rope_scaling.{field}"),
                expected: format!("a list of {expected} numbers"),
                found: inner.unwrap_or(&Json::Null).to_string().chars().take(80).collect(),
            }),
        }
    }

    /// An error that names the field and what llama.cpp does instead.
    fn refused(&self, field: &str, instead: &str) -> ModelError {
        let at = |field: &str| field.split('.').try_fold(&self.config.raw, |value, key| value.get(key));
        // Newer files call the same object otherwise.
        let newer = || field.strip_prefix("rope_scaling.").and_then(|inner| at(&format!("rope_parameters.{inner}")));
        let value = at(field).or_else(newer);
        ModelError::Unsupported {
            path: self.path.to_owned(),
            field: field.to_owned(),
            found: value.unwrap_or(&Json::Null).to_string().chars().take(80).collect(),
            remedy: format!("in llama.cpp's {} {instead}", self.name()),
        }
    }
}
