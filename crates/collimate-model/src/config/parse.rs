//! From the fields of `config.json` to a checked [`ModelConfig`].
//!
//! Defaults are those of transformers' configuration classes (`LlamaConfig`, `MistralConfig`, `Qwen2Config`,
//! `Qwen3Config`).

use std::path::Path;

use serde_json::Value;

use super::fields::Fields;
use super::{Activation, Architecture, AttentionBias, ModelConfig, limits, rope};
use crate::error::ModelError;

/// More blocks than this are a slip of the pen, and their list of names would fill the memory.
const MOST_LAYERS: usize = 10_000;

/// What a field is where the file does not say, for one architecture.
struct Defaults {
    vocab_size: usize,
    intermediate_size: usize,
    /// None: as many as query heads.
    num_key_value_heads: Option<usize>,
    /// None: `hidden_size / num_attention_heads`.
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    bos_token_id: Option<u32>,
    eos_token_id: Option<u32>,
}

fn defaults(architecture: Architecture) -> Defaults {
    let llama = Defaults {
        vocab_size: 32_000,
        intermediate_size: 11_008,
        num_key_value_heads: None,
        head_dim: None,
        max_position_embeddings: 2048,
        bos_token_id: Some(1),
        eos_token_id: Some(2),
    };
    let qwen2 = Defaults {
        vocab_size: 151_936,
        intermediate_size: 22_016,
        num_key_value_heads: Some(32),
        head_dim: None,
        max_position_embeddings: 32_768,
        bos_token_id: None,
        eos_token_id: None,
    };
    match architecture {
        Architecture::Llama => llama,
        Architecture::Mistral => Defaults {
            intermediate_size: 14_336,
            num_key_value_heads: Some(8),
            max_position_embeddings: 4096 * 32,
            ..llama
        },
        Architecture::Qwen2 => qwen2,
        Architecture::Qwen3 => Defaults { head_dim: Some(128), ..qwen2 },
    }
}

pub(super) fn config(path: &Path, raw: Value) -> Result<ModelConfig, ModelError> {
    let fields = Fields::top(path, &raw)?;
    let architecture = architecture(path, fields)?;
    let defaults = defaults(architecture);
    let num_hidden_layers = fields.size_or("num_hidden_layers", 32)?;
    if num_hidden_layers > MOST_LAYERS {
        return Err(fields.wrong("num_hidden_layers", &format!("at most {MOST_LAYERS}")));
    }
    let max_position_embeddings = fields.size_or("max_position_embeddings", defaults.max_position_embeddings)?;
    let (rope_theta, rope_scaling) = rope::read(fields, max_position_embeddings)?;
    let heads = heads(fields, &defaults)?;
    let number = |key, default| Ok::<_, ModelError>(fields.positive(key)?.unwrap_or(default));
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
        rms_norm_eps: number("rms_norm_eps", 1e-6)?,
        rope_theta,
        rope_scaling,
        tie_word_embeddings: fields.flag_or("tie_word_embeddings", false)?,
        hidden_act: activation(fields)?,
        attention_bias: attention_bias(architecture, fields)?,
        mlp_bias: architecture == Architecture::Llama && fields.flag_or("mlp_bias", false)?,
        qk_norm: architecture == Architecture::Qwen3,
        layer_windows: layer_windows(architecture, fields, num_hidden_layers)?,
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
    Ok(architecture)
}

struct Heads {
    hidden_size: usize,
    queries: usize,
    keys: usize,
    width: usize,
}

fn heads(fields: Fields<'_>, defaults: &Defaults) -> Result<Heads, ModelError> {
    let hidden_size = fields.size_or("hidden_size", 4096)?;
    let queries = fields.size_or("num_attention_heads", 32)?;
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

fn activation(fields: Fields<'_>) -> Result<Activation, ModelError> {
    match fields.text("hidden_act")?.unwrap_or("silu") {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
        "gelu" => Ok(Activation::Gelu),
        _ => Err(fields.unsupported("hidden_act", "supported: silu, swish, gelu, gelu_new, gelu_pytorch_tanh")),
    }
}

fn attention_bias(architecture: Architecture, fields: Fields<'_>) -> Result<AttentionBias, ModelError> {
    let all = |on| AttentionBias { q: on, k: on, v: on, o: on };
    Ok(match architecture {
        Architecture::Llama | Architecture::Qwen3 => all(fields.flag_or("attention_bias", false)?),
        Architecture::Qwen2 => AttentionBias { o: false, ..all(true) },
        Architecture::Mistral => all(false),
    })
}

/// The window of each layer: Llama has none, Mistral one for all, Qwen those that `layer_types` or
/// `use_sliding_window` with `max_window_layers` name.
fn layer_windows(
    architecture: Architecture,
    fields: Fields<'_>,
    num_layers: usize,
) -> Result<Vec<Option<usize>>, ModelError> {
    let window = || match fields.size("sliding_window")? {
        None if fields.is_null("sliding_window") => Ok::<_, ModelError>(None),
        size => Ok(Some(size.unwrap_or(4096))),
    };
    let (window, first) = match architecture {
        Architecture::Llama => (None, 0),
        Architecture::Mistral => (window()?, 0),
        Architecture::Qwen2 | Architecture::Qwen3 => {
            let window = if fields.flag_or("use_sliding_window", false)? { window()? } else { None };
            (window, first_windowed_layer(fields)?)
        }
    };
    let windows: Vec<_> = (0..num_layers).map(|layer| window.filter(|_| layer >= first)).collect();
    let Some(kinds) = fields.texts("layer_types")? else { return Ok(windows) };
    if kinds.len() != num_layers {
        return Err(fields.wrong("layer_types", &format!("one for each of {num_layers} layers")));
    }
    let by_type = kinds.iter().map(|kind| match *kind {
        "full_attention" => Ok(None),
        "sliding_attention" if window.is_some() => Ok(window),
        "sliding_attention" => {
            Err(fields.wrong("layer_types", "no sliding_attention where there is no sliding window"))
        }
        _ => Err(fields.unsupported("layer_types", "supported: full_attention, sliding_attention")),
    });
    let by_type = by_type.collect::<Result<Vec<_>, _>>()?;
    let mixed = by_type != windows && matches!(architecture, Architecture::Llama | Architecture::Mistral);
    if mixed {
        return Err(fields.unsupported("layer_types", "this architecture has the same attention in every layer"));
    }
    Ok(by_type)
}

fn first_windowed_layer(fields: Fields<'_>) -> Result<usize, ModelError> {
    match fields.get("max_window_layers") {
        None => Ok(28),
        Some(value) => match value.as_u64().and_then(|layers| usize::try_from(layers).ok()) {
            Some(layers) => Ok(layers),
            None => Err(fields.wrong("max_window_layers", "a whole number")),
        },
    }
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
