//! Untrusted parts of a configuration: references to code, and long texts in errors.

use serde_json::Value;

use crate::fields::Fields;

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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use crate::config::ModelConfig;

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
        assert!(error.len() < 300, "{error}");
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
