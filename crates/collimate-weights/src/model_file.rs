//! Names of the files of a model or an adapter.

use crate::shards::is_weight_file;
use crate::side_files::SIDE_FILES;

/// Whether a name is one of those under which models and adapters are written: configuration, weights, tokenizer.
pub fn is_model_file(name: &str) -> bool {
    const OWN: [&str; 3] = ["config.json", "adapter_config.json", "adapter_model.safetensors"];
    OWN.contains(&name) || SIDE_FILES.contains(&name) || is_weight_file(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_models_are_known() {
        let ours =
            ["config.json", "model.safetensors", "model-00002-of-00003.safetensors", "tokenizer.json", "vocab.json"];
        assert!(ours.into_iter().all(is_model_file));
        assert!(!["README.md", "notes.json", "checkpoint-3"].into_iter().any(is_model_file));
    }
}
