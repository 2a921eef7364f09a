//! Writes the configuration as llama.cpp's keys, and refuses whatever llama.cpp has no counterpart for.

use std::path::Path;

use collimate_hf::{AttentionBias, GgufFamily, GgufRefusal, GgufValue, HfError, ModelConfig, RopeScaling};
use serde_json::Value as Json;

use crate::format::{Entry, Value};

/// The ends of YaRN's ramp in llama.cpp, in rotations over the original context; files cannot change them.
const YARN_BETAS: [f64; 2] = [32.0, 1.0];

/// A model's configuration, its family in llama.cpp, and the file to name in errors.
#[derive(Clone, Copy)]
pub(crate) struct Model<'a> {
    pub(crate) config: &'a ModelConfig,
    pub(crate) family: &'a GgufFamily,
    path: &'a Path,
}

impl<'a> Model<'a> {
    /// Refuses a model whose family llama.cpp does not have.
    pub(crate) fn new(config: &'a ModelConfig, path: &'a Path) -> Result<Self, HfError> {
        match &config.family.gguf {
            Some(family) => Ok(Self { config, family, path }),
            None => Err(HfError::Unsupported {
                path: path.to_owned(),
                field: "model_type".to_owned(),
                found: format!("\"{}\"", config.family.model_type),
                remedy: "llama.cpp has no such architecture".to_owned(),
            }),
        }
    }

    /// llama.cpp's name for the architecture.
    pub(crate) fn name(&self) -> &'static str {
        self.family.architecture
    }

    /// Refuses models that llama.cpp would compute differently; adds a note if only long texts come out differently.
    pub(crate) fn check(&self, notes: &mut Vec<String>) -> Result<(), HfError> {
        self.check_layers()?;
        self.check_attention()?;
        self.check_rotation()?;
        if let Some(GgufRefusal { field, instead }) = (self.family.refusal)(self.config) {
            return Err(self.refused(field, instead));
        }
        let window = self.config.layer_windows.iter().flatten().min().filter(|_| !self.family.windows);
        notes.extend(window.map(|window| {
            let name = self.name();
            format!(
                "llama.cpp has no window of {window} tokens in {name}: it computes something else beyond that length"
            )
        }));
        if matches!(self.config.rope_scaling, RopeScaling::Yarn { truncate: false, .. }) {
            notes.push(
                "llama.cpp rounds the ends of YaRN's ramp, which this model does not (rope_scaling.truncate): log-probs \
                 differ a little, as with its publisher's GGUF files"
                    .to_owned(),
            );
        }
        if let RopeScaling::Long { original_max_position_embeddings: original, .. } = self.config.rope_scaling {
            notes.push(format!(
                "llama.cpp takes the factors of long texts for short ones too once its own context (--ctx-size) is longer \
                 than {original} tokens: short texts are the same up to that size"
            ));
        }
        Ok(())
    }

    fn check_layers(&self) -> Result<(), HfError> {
        let (config, family) = (self.config, self.family);
        if config.hidden_act != family.activation {
            let instead = format!("{:?} is its only activation", family.activation);
            return Err(self.refused(config.family.activation_key(), &instead));
        }
        if config.mlp_bias && !family.mlp_bias {
            return Err(self.refused("mlp_bias", "it reads no such biases"));
        }
        Ok(())
    }

    fn check_attention(&self) -> Result<(), HfError> {
        let (config, family) = (self.config, self.family);
        let AttentionBias { q, k, v, o } = config.attention_bias;
        let read = family.attention_bias;
        if (q && !read.q) || (k && !read.k) || (v && !read.v) || (o && !read.o) {
            return Err(self.refused("attention_bias", "it reads no such biases"));
        }
        if family.heads_fill_width && config.head_dim * config.num_attention_heads != config.hidden_size {
            return Err(self.refused("head_dim", "all heads together are as wide as the hidden states"));
        }
        let divisor = family.attention_divisor.map(|divisor| divisor(config));
        match divisor.filter(|divisor| (config.attention_scale * (*divisor as f64).sqrt() - 1.0).abs() > 1e-6) {
            None => Ok(()),
            Some(divisor) => {
                Err(self.refused("query_pre_attn_scalar", &format!("its attention is scaled by 1/√{divisor}")))
            }
        }
    }

    fn check_rotation(&self) -> Result<(), HfError> {
        match &self.config.rope_scaling {
            RopeScaling::Dynamic { .. } => Err(self.refused("rope_scaling.rope_type", "it has no dynamic scaling")),
            RopeScaling::Llama3 { .. } if !self.family.llama3_scaling => {
                Err(self.refused("rope_scaling.rope_type", "it has llama3 scaling for llama alone"))
            }
            RopeScaling::Yarn { truncate: false, .. } if !self.family.rounds_ramp => {
                Err(self.refused("rope_scaling.truncate", "its ramp has whole ends"))
            }
            RopeScaling::Yarn { beta_fast, .. } if !self.family.yarn_keys && *beta_fast != YARN_BETAS[0] => {
                Err(self.refused("rope_scaling.beta_fast", "it is 32"))
            }
            RopeScaling::Yarn { beta_slow, .. } if !self.family.yarn_keys && *beta_slow != YARN_BETAS[1] => {
                Err(self.refused("rope_scaling.beta_slow", "it is 1"))
            }
            RopeScaling::Yarn { factor, attention_factor, mscale, mscale_all_dim, .. } => {
                // llama.cpp multiplies by this whatever the file says.
                let own = if *factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 };
                let other = attention_factor.is_some_and(|given| (given - own).abs() > 1e-6);
                match (mscale, mscale_all_dim) {
                    (None, None) if !other => Ok(()),
                    (Some(1.0), Some(_)) if self.family.yarn_keys && attention_factor.is_none() => Ok(()),
                    _ if self.family.yarn_keys => Err(self.refused("rope_scaling.mscale", "it is 1")),
                    _ => Err(self.refused("rope_scaling.attention_factor", "it is 0.1 ln(factor) + 1")),
                }
            }
            _ => Ok(()),
        }
    }

    /// The keys of the architecture.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, HfError> {
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
        let window = config.layer_windows.iter().flatten().min();
        entries.extend(window.map(|window| count("attention.sliding_window", *window)));
        entries.extend((self.family.keys)(config).into_iter().map(|(name, value)| match value {
            GgufValue::Count(value) => count(name, value),
            GgufValue::Number(value) => number(name, value),
            GgufValue::Flag(value) => Entry::flag(&key(name), value),
        }));
        entries.extend(config.attention_softcap.map(|cap| number("attn_logit_softcapping", cap)));
        entries.extend(config.logit_softcap.map(|cap| number("final_logit_softcapping", cap)));
        if let Some(experts) = config.experts {
            entries.push(count("expert_count", experts.count));
            entries.push(count("expert_used_count", experts.per_token));
        }
        entries.extend(self.scaling());
        Ok(entries)
    }

    /// The keys of a scaled rotation.
    fn scaling(&self) -> Vec<Entry> {
        let key = |name: &str| format!("{}.rope.scaling.{name}", self.name());
        let kind = |kind: &str| Entry::list(&key("type"), Value::Text(kind.to_owned()));
        let original = |tokens: usize| Entry::count(&key("original_context_length"), tokens);
        match &self.config.rope_scaling {
            RopeScaling::Linear { factor } => vec![kind("linear"), Entry::number(&key("factor"), *factor)],
            yarn @ RopeScaling::Yarn { factor, original_max_position_embeddings, .. } => {
                let mut entries = vec![kind("yarn"), Entry::number(&key("factor"), *factor)];
                entries.push(original(*original_max_position_embeddings));
                entries.extend(self.yarn_entries(yarn));
                entries
            }
            RopeScaling::Long { original_max_position_embeddings, attention_factor, .. } => vec![
                kind("longrope"),
                original(*original_max_position_embeddings),
                Entry::number(&key("attn_factor"), *attention_factor),
            ],
            // Llama 3.1's scaling is stored as a tensor.
            _ => Vec::new(),
        }
    }

    /// The keys of YaRN that only some architectures have.
    fn yarn_entries(&self, scaling: &RopeScaling) -> Vec<Entry> {
        let RopeScaling::Yarn { beta_fast, beta_slow, mscale_all_dim, .. } = scaling else { return Vec::new() };
        if !self.family.yarn_keys {
            return Vec::new();
        }
        let number = |name: &str, value: f64| Entry::number(&format!("{}.rope.scaling.{name}", self.name()), value);
        let mut entries = vec![number("yarn_beta_fast", *beta_fast), number("yarn_beta_slow", *beta_slow)];
        entries.extend(mscale_all_dim.map(|weight| number("yarn_log_multiplier", weight)));
        entries
    }

    /// LongRoPE's factors for long texts, which Collimate itself does not use.
    pub(crate) fn long_factors(&self) -> Result<Vec<f32>, HfError> {
        let field = "long_factor";
        let inner = ["rope_scaling", "rope_parameters"].iter().find_map(|key| self.config.raw.get(key)?.get(field));
        let list = inner.and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        let factors: Option<Vec<f32>> = list.iter().map(|factor| Some(factor.as_f64()? as f32)).collect();
        let expected = self.config.rotary_dim / 2;
        match factors.filter(|factors| factors.len() == expected) {
            Some(factors) => Ok(factors),
            None => Err(HfError::Field {
                path: self.path.to_owned(),
                field: format!("rope_scaling.{field}"),
                expected: format!("a list of {expected} numbers"),
                found: inner.unwrap_or(&Json::Null).to_string().chars().take(80).collect(),
            }),
        }
    }

    /// The error for a field, with what llama.cpp does instead.
    fn refused(&self, field: &str, instead: &str) -> HfError {
        let at = |field: &str| field.split('.').try_fold(&self.config.raw, |value, key| value.get(key));
        // Newer files have the object under another name.
        let newer = || field.strip_prefix("rope_scaling.").and_then(|inner| at(&format!("rope_parameters.{inner}")));
        let value = at(field).or_else(newer);
        HfError::Unsupported {
            path: self.path.to_owned(),
            field: field.to_owned(),
            found: value.unwrap_or(&Json::Null).to_string().chars().take(80).collect(),
            remedy: format!("in llama.cpp's {} {instead}", self.name()),
        }
    }
}
