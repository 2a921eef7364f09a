//! A model's configuration as llama.cpp's keys, and what of it llama.cpp cannot be told.

use std::path::Path;

use serde_json::Value as Json;

use super::format::Entry;
use crate::config::{Activation, Architecture, ModelConfig, RopeScaling};
use crate::error::ModelError;

/// A configuration with its file, for errors.
pub(super) struct Model<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) path: &'a Path,
}

impl Model<'_> {
    /// llama.cpp's name of the architecture.
    pub(super) fn name(&self) -> &'static str {
        match self.config.architecture {
            Architecture::Llama | Architecture::Mistral | Architecture::Mixtral => "llama",
            Architecture::Qwen2 => "qwen2",
            Architecture::Qwen3 => "qwen3",
            Architecture::Gemma2 => "gemma2",
            Architecture::Phi3 => "phi3",
            Architecture::Olmo2 => "olmo2",
            Architecture::SmolLm3 => "smollm3",
        }
    }

    /// Whether llama.cpp rotates neighbours of a head's numbers there, where halves are rotated here.
    pub(super) fn interleaves(&self) -> bool {
        matches!(self.name(), "llama" | "smollm3")
    }

    /// Whether llama.cpp computes what the model is; what it leaves out without harm to short texts goes to `notes`.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] naming the field.
    pub(super) fn check(&self, notes: &mut Vec<String>) -> Result<(), ModelError> {
        self.check_layers()?;
        self.check_attention()?;
        self.check_rotation()?;
        let windows = || self.config.layer_windows.iter().flatten();
        if self.name() != "gemma2"
            && let Some(window) = windows().min()
        {
            notes.push(format!("llama.cpp attends without the sliding window of {window} tokens"));
        }
        Ok(())
    }

    fn check_layers(&self) -> Result<(), ModelError> {
        let (config, gemma) = (self.config, self.name() == "gemma2");
        let activation = if gemma { Activation::GeluTanh } else { Activation::Silu };
        self.require(
            config.hidden_act == activation,
            "hidden_act",
            "llama.cpp has one activation for the architecture",
        )?;
        self.require(!config.mlp_bias || self.name() == "llama", "mlp_bias", "llama.cpp reads no such biases there")?;
        let bias = config.attention_bias;
        let queries = bias.q && bias.k && bias.v;
        let bias_fits = match self.name() {
            "llama" => true,
            "qwen2" => queries && !bias.o,
            _ => !bias.q && !bias.k && !bias.v && !bias.o,
        };
        self.require(bias_fits, "attention_bias", "llama.cpp reads other biases there")?;
        let scale = gemma.then(|| (config.hidden_size as f64).sqrt());
        let embeds = match (config.embedding_scale, scale) {
            (Some(found), Some(wanted)) => (found / wanted - 1.0).abs() < 1e-3,
            (found, wanted) => found.is_none() && wanted.is_none(),
        };
        self.require(embeds, "hidden_size", "llama.cpp scales embeddings by its root there")
    }

    fn check_attention(&self) -> Result<(), ModelError> {
        let (config, gemma) = (self.config, self.name() == "gemma2");
        let near = |wanted: f64| (config.attention_scale / wanted - 1.0).abs() < 1e-6;
        let by_head = near((config.head_dim as f64).powf(-0.5));
        // llama.cpp knows the largest gemma2 by its layers.
        let by_width = gemma
            && config.num_hidden_layers == 46
            && near((config.hidden_size as f64 / config.num_attention_heads as f64).powf(-0.5));
        let scaled = if gemma && config.num_hidden_layers == 46 { by_width } else { by_head };
        self.require(scaled, "query_pre_attn_scalar", "llama.cpp scales scores by the root of a head's width")?;
        let capped = config.attention_softcap.is_some() && config.logit_softcap.is_some();
        let uncapped = config.attention_softcap.is_none() && config.logit_softcap.is_none();
        let caps_fit = if gemma { capped } else { uncapped };
        self.require(caps_fit, "attn_logit_softcapping", "llama.cpp caps scores and logits of gemma2 and of no other")?;
        let alternates = |(layer, window): (usize, &Option<usize>)| window.is_some() == layer.is_multiple_of(2);
        let windows = !gemma || config.layer_windows.iter().enumerate().all(alternates);
        self.require(windows, "layer_types", "llama.cpp gives every other layer of gemma2 a window, from the first on")
    }

    fn check_rotation(&self) -> Result<(), ModelError> {
        let config = self.config;
        let smollm = self.name() == "smollm3";
        let rotated = |(layer, is_rotated): (usize, &bool)| *is_rotated != (smollm && (layer + 1).is_multiple_of(4));
        let layers = config.rotated_layers.iter().enumerate().all(rotated);
        self.require(layers, "no_rope_layers", "llama.cpp rotates all layers but every fourth of smollm3")?;
        let partial = config.rotary_dim == config.head_dim || self.name() == "phi3";
        self.require(partial, "partial_rotary_factor", "llama.cpp rotates whole heads there")?;
        let fits = match &config.rope_scaling {
            RopeScaling::Default | RopeScaling::Linear { .. } => true,
            RopeScaling::Dynamic { .. } => false,
            RopeScaling::Llama3 { .. } => self.name() == "llama",
            RopeScaling::Yarn { factor, beta_fast, beta_slow, attention_factor, mscale, mscale_all_dim, .. } => {
                let usual = attention_factor.is_none_or(|found| (found / (0.1 * factor.ln() + 1.0) - 1.0).abs() < 1e-6);
                usual && mscale.is_none() && mscale_all_dim.is_none() && *beta_fast == 32.0 && *beta_slow == 1.0
            }
            RopeScaling::Long { .. } => self.name() == "phi3",
        };
        self.require(fits, "rope_scaling", "llama.cpp has no such stretching for the architecture")
    }

    fn require(&self, holds: bool, field: &str, remedy: &str) -> Result<(), ModelError> {
        if holds {
            return Ok(());
        }
        let found = self.raw(field).map_or_else(|| "its value".to_owned(), ToString::to_string);
        Err(ModelError::Unsupported {
            path: self.path.to_owned(),
            field: field.to_owned(),
            found,
            remedy: remedy.to_owned(),
        })
    }

    fn raw(&self, field: &str) -> Option<&Json> {
        let rope = ["rope_parameters", "rope_scaling"].iter().find_map(|name| self.config.raw.get(name)?.get(field));
        self.config.raw.get(field).or(rope)
    }

    /// The factors of LongRoPE for sequences beyond the original context.
    ///
    /// # Errors
    /// The configuration has none, or another number of them.
    pub(super) fn long_factors(&self) -> Result<Vec<f32>, ModelError> {
        let factors = self.raw("long_factor").and_then(Json::as_array);
        let numbers = factors.map(|list| list.iter().filter_map(Json::as_f64).map(|factor| factor as f32).collect());
        let numbers: Vec<f32> = numbers.unwrap_or_default();
        self.require(
            numbers.len() == self.config.rotary_dim / 2,
            "long_factor",
            "a number for each frequency is needed",
        )?;
        Ok(numbers)
    }

    /// The architecture's keys.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, ModelError> {
        let config = self.config;
        let count = |key: &str, value: usize| Entry::count(&self.key(key), value);
        let number = |key: &str, value: f64| Entry::number(&self.key(key), value);
        let mut entries = vec![
            count("vocab_size", config.vocab_size),
            count("context_length", config.max_position_embeddings),
            count("embedding_length", config.hidden_size),
            count("block_count", config.num_hidden_layers),
            count("feed_forward_length", config.intermediate_size),
            count("attention.head_count", config.num_attention_heads),
            count("attention.head_count_kv", config.num_key_value_heads),
            count("attention.key_length", config.head_dim),
            count("attention.value_length", config.head_dim),
            number("attention.layer_norm_rms_epsilon", config.rms_norm_eps),
            number("rope.freq_base", config.rope_theta),
            count("rope.dimension_count", config.rotary_dim),
        ];
        entries.extend(
            config.experts.into_iter().flat_map(|experts| {
                [count("expert_count", experts.count), count("expert_used_count", experts.per_token)]
            }),
        );
        entries.extend(config.attention_softcap.map(|cap| number("attn_logit_softcapping", cap)));
        entries.extend(config.logit_softcap.map(|cap| number("final_logit_softcapping", cap)));
        if matches!(self.name(), "gemma2" | "phi3") {
            entries.extend(
                config.layer_windows.iter().flatten().min().map(|size| count("attention.sliding_window", *size)),
            );
        }
        entries.extend(self.rotation());
        Ok(entries)
    }

    /// Keys of stretched frequencies.
    fn rotation(&self) -> Vec<Entry> {
        let text = |key: &str, value: &str| Entry::text(&self.key(key), value);
        let number = |key: &str, value: f64| Entry::number(&self.key(key), value);
        let count = |key: &str, value: usize| Entry::count(&self.key(key), value);
        match &self.config.rope_scaling {
            RopeScaling::Linear { factor } => {
                vec![text("rope.scaling.type", "linear"), number("rope.scaling.factor", *factor)]
            }
            RopeScaling::Yarn { factor, original_max_position_embeddings, .. } => vec![
                text("rope.scaling.type", "yarn"),
                number("rope.scaling.factor", *factor),
                count("rope.scaling.original_context_length", *original_max_position_embeddings),
            ],
            RopeScaling::Long { original_max_position_embeddings, attention_factor, .. } => vec![
                count("rope.scaling.original_context_length", *original_max_position_embeddings),
                number("rope.scaling.attn_factor", *attention_factor),
            ],
            RopeScaling::Default | RopeScaling::Dynamic { .. } | RopeScaling::Llama3 { .. } => Vec::new(),
        }
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.name())
    }
}
