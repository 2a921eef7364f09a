//! Untrusted parts of a configuration: references to code, long texts in errors, and sizes whose products overflow.

use std::path::Path;

use serde_json::Value;

use crate::config::ModelConfig;
use crate::error::HfError;
use crate::fields::Fields;

/// More blocks are a typing error, and their list of names would exhaust memory.
const MOST_LAYERS: usize = 10_000;
/// Longest name in an error, in characters.
const SHOWN_CHARACTERS: usize = 80;

/// Whether the configuration refers to code, which other loaders would run.
pub(super) fn names_code(config: &Value) -> bool {
    config.get("auto_map").is_some_and(|map| !map.is_null())
}

/// A note on an unknown architecture whose folder contains its own code.
pub(super) fn code_hint(fields: Fields<'_>) -> &'static str {
    match fields.get("auto_map") {
        Some(_) => "; its own code (auto_map, trust_remote_code) is never run",
        None => "",
    }
}

/// A name, truncated for an error.
pub(super) fn shortened(name: &str) -> String {
    match name.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    }
}

/// The number of blocks.
pub(super) fn num_layers(fields: Fields<'_>, default: usize) -> Result<usize, HfError> {
    let num_layers = fields.size_or("num_hidden_layers", default)?;
    match num_layers > MOST_LAYERS {
        true => Err(fields.wrong("num_hidden_layers", &format!("at most {MOST_LAYERS}"))),
        false => Ok(num_layers),
    }
}

/// Checks that no later product of sizes overflows, in bytes of float32.
pub(super) fn addressable(path: &Path, config: &ModelConfig) -> Result<(), HfError> {
    let product = |sizes: &[usize]| {
        sizes.iter().try_fold(4_usize, |product, size| product.checked_mul(*size)).filter(|n| *n <= isize::MAX as usize)
    };
    let expert = config.experts.map_or(1, |experts| experts.intermediate_size);
    let fits = || {
        if let Some(linear) = config.linear_attention {
            product(&[linear.key_heads, linear.key_dim, config.hidden_size])?;
            product(&[linear.value_heads, linear.value_dim, config.hidden_size.max(linear.key_dim)])?;
        }
        product(&[config.num_attention_heads, config.head_dim, config.hidden_size])?;
        product(&[config.hidden_size, expert])?;
        product(&[config.hidden_size, config.intermediate_size])?;
        product(&[config.vocab_size, config.hidden_size])?;
        let bytes = config.tensors().iter().try_fold(0_usize, |sum, spec| sum.checked_add(product(&spec.shape)?))?;
        (bytes <= isize::MAX as usize).then_some(())
    };
    fits().ok_or_else(|| HfError::TooLarge {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    fn read(config: Value) -> Result<ModelConfig, String> {
        ModelConfig::from_json(Path::new("config.json"), config).map_err(|error| error.to_string())
    }

    use super::*;

    #[test]
    fn code_of_an_unknown_architecture_is_not_run_and_the_error_says_so() {
        let config = json!({"model_type": "custom", "auto_map": {"AutoModelForCausalLM": "modeling_custom.Custom"}});
        let error = read(config).expect_err("an unknown architecture");
        assert!(error.ends_with("; its own code (auto_map, trust_remote_code) is never run"), "{error}");
        let error = read(json!({"model_type": "x".repeat(10_000)})).expect_err("an unknown architecture");
        assert!(error.len() < 500, "{error}");
    }

    #[test]
    fn code_of_a_known_architecture_is_ignored_and_known_to_be_there() {
        let mut config = json!({
            "model_type": "llama", "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1, "vocab_size": 4,
            "num_attention_heads": 1,
        });
        assert!(!read(config.clone()).expect("a configuration").names_code());
        config["auto_map"] = json!({"AutoModelForCausalLM": "modeling_custom.Custom"});
        assert!(read(config).expect("a configuration").names_code());
    }
}
