//! Packed weights that a backend has no kernels for: they are unpacked once, when they are loaded.

use collimate_backend::keeps_packed;
use collimate_hf::ModelConfig;
use collimate_quantized::Format;

use crate::error::SessionError;
use crate::options::SessionOptions;

impl SessionOptions {
    /// The configuration, with weights unpacked that the backend would unpack on the host for each product; a note says so.
    ///
    /// # Errors
    /// The backend is unknown or not compiled in.
    pub(crate) fn packed_for_backend(&self, config: ModelConfig) -> Result<ModelConfig, SessionError> {
        Ok(match config.packing() {
            Some(format) if !keeps_packed(&self.backend, format)? => self.unpacked(config, format),
            _ => config,
        })
    }

    fn unpacked(&self, mut config: ModelConfig, format: Format) -> ModelConfig {
        let weights = config.packable_weights().into_iter().filter(|weight| config.packed_format(weight).is_some());
        let weights: Vec<String> = weights.collect();
        // Weights in files stay there, packed.
        let how = match config.weights_in_files {
            true => "on the processor for each product".to_owned(),
            false => format!("to {} when they are loaded", self.dtype.name()),
        };
        config.notes.push(format!(
            "{}: {} weights packed as {} are unpacked {how}, because the backend {} has no kernel that unpacks them",
            self.model.display(),
            weights.len(),
            format.name(),
            self.backend
        ));
        if !config.weights_in_files {
            config.unpacked_weights.extend(weights);
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use collimate_backend::ComputeDtype;
    use serde_json::json;

    use super::*;

    fn config(weights_in_files: bool) -> ModelConfig {
        let json = json!({
            "model_type": "llama", "vocab_size": 32, "hidden_size": 128, "intermediate_size": 256,
            "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64,
            "quantization_config": { "quant_method": "fp8", "weight_block_size": [128, 128] },
        });
        let config = ModelConfig::from_json(Path::new("config.json"), json).expect("a configuration");
        ModelConfig { weights_in_files, ..config }
    }

    fn options() -> SessionOptions {
        SessionOptions { dtype: ComputeDtype::Bfloat16, ..SessionOptions::inference("model", None) }
    }

    #[test]
    fn weights_without_a_kernel_are_unpacked_when_they_are_loaded_and_a_note_says_so() {
        let packed = config(false);
        let format = packed.packing().expect("packed weights");
        let unpacked = options().unpacked(packed.clone(), format);
        assert_eq!(unpacked.packing(), None);
        assert_eq!(unpacked.quantization, packed.quantization, "what the files hold");
        let note = unpacked.notes.last().expect("a note");
        let expected = "model: 14 weights packed as fp8 are unpacked to bfloat16 when they are loaded, because the backend \
                        flex has no kernel";
        assert!(note.starts_with(expected), "{note}");
    }

    #[test]
    fn weights_in_files_stay_packed_there() {
        let packed = config(true);
        let format = packed.packing().expect("packed weights");
        let kept = options().unpacked(packed, format);
        assert_eq!(kept.packing(), Some(format));
        assert!(kept.notes.last().is_some_and(|note| note.contains("on the processor for each product")));
    }

    #[test]
    fn a_backend_with_kernels_leaves_weights_packed() {
        let packed = config(false);
        let kept = options().packed_for_backend(packed.clone()).expect("flex");
        assert_eq!(kept, packed);
        let unknown = SessionOptions { backend: "flx".to_owned(), ..options() };
        assert!(unknown.packed_for_backend(packed).is_err());
    }
}
