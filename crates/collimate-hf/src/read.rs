//! Reads `config.json`, in files of old and new transformers, into a checked [`ModelConfig`].

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::config::{Activation, AttentionBias, BiasRule, Defaults, Family, JointNames, ModelConfig};
use crate::error::HfError;
use crate::families::FAMILIES;
use crate::fields::Fields;
use crate::plain_file::read_json;
use crate::rope::{self, RopeFields, RopeScaling};
use crate::vision::Vision;
use crate::wrapped::{self, TextFields, WRAPPERS, Wrapper};
use crate::{limits, nearest, quantization};

impl ModelConfig {
    /// Reads `config.json` of a model folder, and the end-of-text tokens of its `generation_config.json` if it has one. What the
    /// files of its weights say about it is not in there: that is for whoever opens them.
    ///
    /// # Errors
    /// [`HfError`] naming file and field: not JSON; sizes that are zero, absurd or inconsistent; an unsupported
    /// architecture, activation or rotary scaling.
    pub fn as_stated(dir: &Path) -> Result<Self, HfError> {
        let path = dir.join("config.json");
        if !path.exists() {
            let remedy = "a model folder has a config.json that describes its architecture".to_owned();
            return Err(HfError::MissingFile { path, remedy });
        }
        let mut config = Self::from_json(&path, read_json(&path)?)?;
        config.vision.iter_mut().try_for_each(|vision| vision.read_settings(dir))?;
        let path = dir.join("generation_config.json");
        if path.exists() {
            let generation = read_json(&path)?;
            for id in Fields::top(&path, &generation)?.token_ids("eos_token_id")? {
                if !config.eos_token_ids.contains(&id) {
                    config.eos_token_ids.push(id);
                }
            }
        }
        Ok(config)
    }

    /// Reads the contents of a `config.json`; `path` is for errors only.
    ///
    /// Absent fields have transformers' defaults for the family.
    ///
    /// # Errors
    /// Those of [`ModelConfig::as_stated`].
    pub fn from_json(path: &Path, value: Value) -> Result<Self, HfError> {
        let config = checked(Fields::top(path, &value)?)?;
        limits::addressable(path, &config)?;
        Ok(Self { raw: value, ..config })
    }

    /// Whether `config.json` refers to code in the folder (`auto_map`), like models that need `trust_remote_code`. Such
    /// code never runs: the model is computed according to its `model_type`.
    pub fn names_code(&self) -> bool {
        limits::names_code(&self.raw)
    }
}

/// The checked configuration, without the original file.
fn checked(top: Fields<'_>) -> Result<ModelConfig, HfError> {
    let TextFields { fields, wrapper } = wrapped::text_fields(top)?;
    let family = wrapper.map_or_else(|| family(fields), |wrapper| wrapper.family(fields))?;
    refuse_variants(top, fields, wrapper)?;
    let mut config = match family.translate {
        None => common(top, &TextFields { fields, wrapper }, family)?,
        Some(translate) => {
            let value = translate(fields)?;
            let fields = Fields::top(fields.path(), &value)?;
            common(fields, &TextFields { fields, wrapper }, family)?
        }
    };
    (family.read)(fields, &mut config)?;
    if let Some(wrapper) = wrapper {
        config.vision = Vision::read(top, wrapper.model_type, config.hidden_size)?;
    }
    Ok(config)
}

/// Reads the fields that all families have; what only some have is switched off.
fn common(top: Fields<'_>, text: &TextFields<'_>, family: &'static Family) -> Result<ModelConfig, HfError> {
    let (&TextFields { fields, wrapper }, defaults) = (text, &family.defaults);
    let (layers, heads) = (limits::num_layers(fields, defaults.num_hidden_layers)?, heads(fields, defaults)?);
    let rotation = rotation(family, fields, heads.width)?;
    Ok(ModelConfig {
        family,
        wrapper,
        vision: None,
        quantization: quantization::read(top, fields, family)?,
        unpacked_weights: BTreeSet::new(),
        weights_in_files: false,
        vocab_size: fields.size_or("vocab_size", defaults.vocab_size)?,
        conditions: 0,
        grid: None,
        scales: None,
        hidden_size: heads.hidden_size,
        intermediate_size: fields.size_or("intermediate_size", defaults.intermediate_size)?,
        num_hidden_layers: layers,
        num_attention_heads: heads.queries,
        num_key_value_heads: heads.keys,
        head_dim: heads.width,
        max_position_embeddings: rotation.positions,
        rms_norm_eps: fields.positive("rms_norm_eps")?.unwrap_or(defaults.rms_norm_eps),
        rope_theta: rotation.theta,
        rope_scaling: rotation.scaling,
        window_rope: None,
        query_growth: None,
        mrope_sections: None,
        rotary_dim: rotation.dim,
        tie_word_embeddings: text.is_tied(top, family)?,
        hidden_act: activation(family, fields)?,
        attention_bias: attention_bias(family, fields)?,
        mlp_bias: family.has_mlp_bias && fields.flag_or("mlp_bias", false)?,
        clamped_gate: None,
        attention_scale: 1.0 / (heads.width as f64).sqrt(),
        attention_softcap: None,
        attention_sinks: false,
        logit_softcap: None,
        embedding_scale: None,
        residual_scale: None,
        logit_scale: None,
        norm_placement: family.names.norm_placement(),
        norm_offset: family.norm_offset,
        qk_norm: family.qk_norm,
        attention_gate: false,
        linear_attention: None,
        linear_layers: vec![false; layers],
        fused_projections: matches!(family.names.qkv, JointNames::Fused(_)),
        experts: None,
        expert_layers: vec![true; layers],
        rotated_layers: vec![true; layers],
        layer_windows: (family.windows)(fields, defaults.sliding_window, layers)?,
        eos_token_ids: outer_of(top, fields, "eos_token_id").token_ids_or("eos_token_id", defaults.eos_token_id)?,
        bos_token_id: fields.token_ids_or("bos_token_id", defaults.bos_token_id)?.first().copied(),
        initializer_range: fields.positive("initializer_range")?.unwrap_or(0.02),
        dtype: dtype(top, fields)?,
        raw: Value::Null,
        notes: Vec::new(),
    })
}

fn positions(fields: Fields<'_>, defaults: &Defaults) -> Result<usize, HfError> {
    fields.size_or("max_position_embeddings", defaults.max_position_embeddings)
}

fn family(fields: Fields<'_>) -> Result<&'static Family, HfError> {
    let wrappers = WRAPPERS.iter().map(|wrapper| wrapper.model_type);
    let supported: Vec<_> = FAMILIES.iter().map(|family| family.model_type).chain(wrappers).collect();
    let Some(found) = fields.text("model_type")? else {
        return Err(fields.wrong("model_type", &format!("one of {}", supported.join(", "))));
    };
    Family::from_model_type(found).ok_or_else(|| {
        let (nearest, hint) = (nearest::nearest(fields, checked), limits::code_hint(fields));
        let path = fields.path().to_owned();
        HfError::UnsupportedArchitecture { path, found: limits::shortened(found), supported, nearest, hint }
    })
}

/// The outer fields if they have this one, otherwise the inner ones.
fn outer_of<'a>(outer: Fields<'a>, inner: Fields<'a>, key: &str) -> Fields<'a> {
    if outer.get(key).is_some() { outer } else { inner }
}

/// Rejects variants that exist for every family and are supported for none.
fn refuse_variants(top: Fields<'_>, fields: Fields<'_>, wrapper: Option<&Wrapper>) -> Result<(), HfError> {
    let classes = top.texts("architectures")?.unwrap_or_default();
    let is_known = |class: &&str| {
        let class = class.to_lowercase();
        class.ends_with("forcausallm") || (wrapper.is_some() && class.ends_with("forconditionalgeneration"))
    };
    if !classes.is_empty() && !classes.iter().any(is_known) {
        return Err(top.unsupported("architectures", "only language models are (a class that ends in ForCausalLM)"));
    }
    if fields.flag_or("use_bidirectional_attention", false)? {
        return Err(fields.unsupported("use_bidirectional_attention", "a token sees itself and those before it"));
    }
    Ok(())
}

/// The rotation described by a file.
struct Rotation {
    /// Number of positions that a model was made for.
    positions: usize,
    theta: f64,
    scaling: RopeScaling,
    /// Number of components of a head that are rotated.
    dim: usize,
}

fn rotation(family: &Family, top: Fields<'_>, head_dim: usize) -> Result<Rotation, HfError> {
    let max_position_embeddings = positions(top, &family.defaults)?;
    let inner = (family.rope_object)(top)?;
    let dim = match family.partial_rotation {
        Some(share) => rope::part_of_head(top, inner, head_dim, share)?,
        None => rope::whole_head(top, inner, head_dim)?,
    };
    let theta = rope::theta(top, inner, family.defaults.rope_theta)?;
    let scaling = match inner {
        Some(inner) => (family.rope_scaling)(RopeFields { inner, top, max_position_embeddings, rotary_dim: dim })?,
        None => RopeScaling::Default,
    };
    Ok(Rotation { positions: max_position_embeddings, theta, scaling, dim })
}

struct Heads {
    hidden_size: usize,
    queries: usize,
    keys: usize,
    width: usize,
}

fn heads(fields: Fields<'_>, defaults: &Defaults) -> Result<Heads, HfError> {
    let hidden_size = fields.size_or("hidden_size", defaults.hidden_size)?;
    let queries = fields.size_or("num_attention_heads", defaults.num_attention_heads)?;
    let keys = match fields.size("num_key_value_heads")? {
        Some(keys) => keys,
        None if fields.is_null("num_key_value_heads") => queries,
        None => defaults.num_key_value_heads.unwrap_or(queries),
    };
    if !queries.is_multiple_of(keys) {
        let expected = format!("a divisor of num_attention_heads, {queries} (a file that is silent means {keys})");
        return Err(fields.wrong("num_key_value_heads", &expected));
    }
    let by_default = defaults.head_dim.filter(|_| !fields.is_null("head_dim"));
    let width = match fields.size("head_dim")?.or(by_default) {
        Some(width) => width,
        None if hidden_size.is_multiple_of(queries) => hidden_size / queries,
        None => {
            return Err(fields.wrong("hidden_size", &format!("a multiple of num_attention_heads, {queries}")));
        }
    };
    if !width.is_multiple_of(2) {
        let expected =
            format!("an even number, since halves of a head are rotated (hidden_size {hidden_size} / {queries})");
        return Err(fields.wrong("head_dim", &expected));
    }
    Ok(Heads { hidden_size, queries, keys, width })
}

fn activation(family: &Family, fields: Fields<'_>) -> Result<Activation, HfError> {
    let (key, default) = family.activation;
    match fields.text(key)? {
        None => Ok(default),
        Some("silu" | "swish") => Ok(Activation::Silu),
        Some("gelu_pytorch_tanh" | "gelu_new") => Ok(Activation::GeluTanh),
        Some("gelu") => Ok(Activation::Gelu),
        Some(_) => Err(fields.unsupported(key, "supported: silu, swish, gelu, gelu_new, gelu_pytorch_tanh")),
    }
}

fn attention_bias(family: &Family, fields: Fields<'_>) -> Result<AttentionBias, HfError> {
    match family.attention_bias {
        BiasRule::Always(bias) => Ok(bias),
        BiasRule::ByField if fields.flag_or("attention_bias", false)? => Ok(AttentionBias::ALL),
        BiasRule::ByField => Ok(AttentionBias::NONE),
    }
}

/// The type of the weights, which some image-and-text models have in their inner fields only.
fn dtype(top: Fields<'_>, inner: Fields<'_>) -> Result<Option<String>, HfError> {
    for (fields, key) in [(top, "dtype"), (top, "torch_dtype"), (inner, "dtype"), (inner, "torch_dtype")] {
        if let Some(name) = fields.text(key)? {
            return Ok(Some(name.trim_start_matches("torch.").to_owned()));
        }
    }
    Ok(None)
}
