//! From the fields of `config.json` to a checked [`ModelConfig`].

use std::path::Path;

use serde_json::Value;

use super::defaults::{Defaults, defaults};
use super::fields::Fields;
use super::{
    Activation, Architecture, AttentionBias, Experts, ModelConfig, NormPlacement, QkNorm, layers, limits, rope,
};
use crate::error::ModelError;

/// More blocks than this are a slip of the pen, and their list of names would fill the memory.
const MOST_LAYERS: usize = 10_000;

/// Experts of all layers together, for the same reason.
const MOST_EXPERTS: usize = 100_000;

pub(super) fn config(path: &Path, raw: Value) -> Result<ModelConfig, ModelError> {
    let fields = Fields::top(path, &raw)?;
    let architecture = architecture(path, fields)?;
    let defaults = defaults(architecture);
    let num_hidden_layers = fields.size_or("num_hidden_layers", defaults.num_hidden_layers)?;
    if num_hidden_layers > MOST_LAYERS {
        return Err(fields.wrong("num_hidden_layers", &format!("at most {MOST_LAYERS}")));
    }
    let max_position_embeddings = fields.size_or("max_position_embeddings", defaults.max_position_embeddings)?;
    let heads = heads(fields, &defaults)?;
    let rotation = rope::read(architecture, fields, &defaults, max_position_embeddings, heads.width)?;
    let rotated_layers = layers::rotated_layers(architecture, fields, num_hidden_layers)?;
    let number = |key, default| Ok::<_, ModelError>(fields.positive(key)?.unwrap_or(default));
    let is_gemma2 = architecture == Architecture::Gemma2;
    let config = ModelConfig {
        architecture,
        vocab_size: fields.size_or("vocab_size", defaults.vocab_size)?,
        hidden_size: heads.hidden_size,
        intermediate_size: fields.size_or("intermediate_size", defaults.intermediate_size)?,
        num_hidden_layers,
        num_attention_heads: heads.queries,
        num_key_value_heads: heads.keys,
        head_dim: heads.width,
        max_position_embeddings,
        rms_norm_eps: number("rms_norm_eps", defaults.rms_norm_eps)?,
        rope_theta: rotation.theta,
        rope_scaling: rotation.scaling,
        rotary_dim: rotation.dim,
        tie_word_embeddings: fields.flag_or("tie_word_embeddings", defaults.tie_word_embeddings)?,
        hidden_act: activation(architecture, fields)?,
        attention_bias: attention_bias(architecture, fields)?,
        mlp_bias: mlp_bias(architecture, fields)?,
        attention_scale: attention_scale(architecture, fields, heads.width)?,
        attention_softcap: softcap(architecture, fields, "attn_logit_softcapping", 50.0)?,
        logit_softcap: softcap(architecture, fields, "final_logit_softcapping", 30.0)?,
        embedding_scale: is_gemma2.then(|| (heads.hidden_size as f64).sqrt()),
        norm_placement: norm_placement(architecture),
        norm_offset: is_gemma2,
        qk_norm: qk_norm(architecture),
        fused_projections: architecture == Architecture::Phi3,
        experts: experts(architecture, fields, num_hidden_layers)?,
        layer_windows: layers::layer_windows(architecture, fields, defaults.sliding_window, &rotated_layers)?,
        rotated_layers,
        eos_token_ids: token_ids(fields, "eos_token_id", defaults.eos_token_id)?,
        bos_token_id: token_ids(fields, "bos_token_id", defaults.bos_token_id)?.first().copied(),
        initializer_range: number("initializer_range", 0.02)?,
        dtype: dtype(fields)?,
        raw: Value::Null,
    };
    addressable(path, &config)?;
    Ok(ModelConfig { raw, ..config })
}

fn architecture(path: &Path, fields: Fields<'_>) -> Result<Architecture, ModelError> {
    let supported: Vec<_> = Architecture::ALL.into_iter().map(Architecture::name).collect();
    let Some(found) = fields.text("model_type")? else {
        return Err(fields.wrong("model_type", &format!("one of {}", supported.join(", "))));
    };
    let Some(architecture) = Architecture::from_name(found) else {
        let hint = limits::code_hint(fields);
        let (path, found) = (path.to_owned(), limits::shortened(found));
        return Err(ModelError::UnsupportedArchitecture { path, found, supported, hint });
    };
    let classes = fields.texts("architectures")?.unwrap_or_default();
    if !classes.is_empty() && !classes.iter().any(|class| class.to_lowercase().ends_with("forcausallm")) {
        return Err(fields.unsupported("architectures", "only language models are (a class that ends in ForCausalLM)"));
    }
    if fields.get("quantization_config").is_some() {
        let remedy = "weights are read as float32, bfloat16 or float16: use the model that was not quantized";
        return Err(fields.unsupported("quantization_config", remedy));
    }
    if fields.flag_or("use_bidirectional_attention", false)? {
        return Err(fields.unsupported("use_bidirectional_attention", "a token sees itself and those before it"));
    }
    Ok(architecture)
}

struct Heads {
    hidden_size: usize,
    queries: usize,
    keys: usize,
    width: usize,
}

fn heads(fields: Fields<'_>, defaults: &Defaults) -> Result<Heads, ModelError> {
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

fn activation(architecture: Architecture, fields: Fields<'_>) -> Result<Activation, ModelError> {
    let (key, default) = match architecture {
        Architecture::Gemma2 => ("hidden_activation", "gelu_pytorch_tanh"),
        _ => ("hidden_act", "silu"),
    };
    match fields.text(key)?.unwrap_or(default) {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
        "gelu" => Ok(Activation::Gelu),
        _ => Err(fields.unsupported(key, "supported: silu, swish, gelu, gelu_new, gelu_pytorch_tanh")),
    }
}

fn attention_bias(architecture: Architecture, fields: Fields<'_>) -> Result<AttentionBias, ModelError> {
    let all = |on| AttentionBias { q: on, k: on, v: on, o: on };
    Ok(match architecture {
        Architecture::Qwen2 => AttentionBias { o: false, ..all(true) },
        Architecture::Mistral | Architecture::Mixtral | Architecture::Phi3 => all(false),
        _ => all(fields.flag_or("attention_bias", false)?),
    })
}

fn mlp_bias(architecture: Architecture, fields: Fields<'_>) -> Result<bool, ModelError> {
    match architecture {
        Architecture::Llama | Architecture::SmolLm3 => fields.flag_or("mlp_bias", false),
        _ => Ok(false),
    }
}

/// 1/√head_dim; Gemma 2 has a number of its own under the root.
fn attention_scale(architecture: Architecture, fields: Fields<'_>, head_dim: usize) -> Result<f64, ModelError> {
    let under_root = match architecture {
        Architecture::Gemma2 => moderate(fields, "query_pre_attn_scalar")?.unwrap_or(256.0),
        _ => head_dim as f64,
    };
    Ok(1.0 / under_root.sqrt())
}

fn softcap(architecture: Architecture, fields: Fields<'_>, key: &str, default: f64) -> Result<Option<f64>, ModelError> {
    if architecture != Architecture::Gemma2 || fields.is_null(key) {
        return Ok(None);
    }
    Ok(Some(moderate(fields, key)?.unwrap_or(default)))
}

/// A factor that float32 can be divided by; none where it is absent or null.
fn moderate(fields: Fields<'_>, key: &str) -> Result<Option<f64>, ModelError> {
    fields.number(key, "a number from 0.001 to 1000000", |x| (1e-3..=1e6).contains(&x))
}

fn norm_placement(architecture: Architecture) -> NormPlacement {
    match architecture {
        Architecture::Gemma2 => NormPlacement::BeforeAndAfter,
        Architecture::Olmo2 => NormPlacement::After,
        _ => NormPlacement::Before,
    }
}

fn qk_norm(architecture: Architecture) -> QkNorm {
    match architecture {
        Architecture::Qwen3 => QkNorm::Head,
        Architecture::Olmo2 => QkNorm::Projection,
        _ => QkNorm::None,
    }
}

/// Mixtral's experts. The router's loss counts only where `output_router_logits` asks for it, as in transformers.
fn experts(architecture: Architecture, fields: Fields<'_>, num_layers: usize) -> Result<Option<Experts>, ModelError> {
    if architecture != Architecture::Mixtral {
        return Ok(None);
    }
    let key = if fields.get("num_local_experts").is_some() { "num_local_experts" } else { "num_experts" };
    let count = fields.size_or(key, 8)?;
    if count.saturating_mul(num_layers) > MOST_EXPERTS {
        return Err(fields.wrong(key, &format!("at most {MOST_EXPERTS} in all layers together")));
    }
    let per_token = fields.size_or("num_experts_per_tok", 2)?;
    if per_token > count {
        return Err(fields.wrong("num_experts_per_tok", &format!("at most {key}, {count}")));
    }
    let weight = fields.number("router_aux_loss_coef", "a number of at least 0", |x| x >= 0.0)?.unwrap_or(0.001);
    let balance_weight = if fields.flag_or("output_router_logits", false)? { weight } else { 0.0 };
    Ok(Some(Experts { count, per_token, balance_weight }))
}

fn token_ids(fields: Fields<'_>, key: &str, default: Option<u32>) -> Result<Vec<u32>, ModelError> {
    let ids = fields.token_ids(key)?;
    let silent = fields.get(key).is_none() && !fields.is_null(key);
    Ok(if silent { default.into_iter().collect() } else { ids })
}

fn dtype(fields: Fields<'_>) -> Result<Option<String>, ModelError> {
    let name = match fields.text("dtype")? {
        Some(name) => Some(name),
        None => fields.text("torch_dtype")?,
    };
    Ok(name.map(|name| name.trim_start_matches("torch.").to_owned()))
}

/// Every later product of sizes fits, in bytes of float32.
fn addressable(path: &Path, config: &ModelConfig) -> Result<(), ModelError> {
    let product = |sizes: &[usize]| {
        sizes.iter().try_fold(4_usize, |product, size| product.checked_mul(*size)).filter(|n| *n <= isize::MAX as usize)
    };
    let fits = || {
        product(&[config.num_attention_heads, config.head_dim, config.hidden_size])?;
        product(&[config.hidden_size, config.intermediate_size])?;
        product(&[config.vocab_size, config.hidden_size])?;
        let bytes = config.tensors().iter().try_fold(0_usize, |sum, spec| sum.checked_add(product(&spec.shape)?))?;
        (bytes <= isize::MAX as usize).then_some(())
    };
    fits().ok_or_else(|| ModelError::TooLarge {
        path: path.to_owned(),
        sizes: format!(
            "vocab_size {}, hidden_size {}, intermediate_size {}, num_hidden_layers {}, num_attention_heads {}, head_dim {}",
            config.vocab_size,
            config.hidden_size,
            config.intermediate_size,
            config.num_hidden_layers,
            config.num_attention_heads,
            config.head_dim
        ),
    })
}
