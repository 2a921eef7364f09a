//! Ministral 3: Mistral with YaRN, and queries that grow with their position.

use super::{llama, mistral};
use crate::config::{Defaults, Family, GgufFamily, GgufRefusal, GgufValue, ModelConfig};
use crate::error::HfError;
use crate::fields::Fields;
use crate::rope::{self, QueryGrowth, RopeScaling};

const ORIGINAL: &str = "original_max_position_embeddings";

pub(super) const FAMILY: Family = Family {
    model_type: "ministral3",
    summary: "`mistral` with YaRN and queries that grow with their position (Ministral 3)",
    gguf: Some(GgufFamily { architecture: "mistral3", yarn_keys: true, keys, refusal, ..llama::GGUF }),
    defaults: Defaults {
        vocab_size: 131_072,
        num_hidden_layers: 34,
        head_dim: Some(128),
        max_position_embeddings: 262_144,
        rms_norm_eps: 1e-5,
        sliding_window: None,
        ..mistral::DEFAULTS
    },
    read,
    ..mistral::FAMILY
};

fn read(fields: Fields<'_>, config: &mut ModelConfig) -> Result<(), HfError> {
    let Some(inner) = rope::inner(fields)? else {
        // What transformers takes for a file without rotation.
        config.rope_theta = 1_000_000.0;
        config.rope_scaling = RopeScaling::Yarn {
            factor: 16.0,
            original_max_position_embeddings: 16_384,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: None,
            mscale: Some(1.0),
            mscale_all_dim: Some(1.0),
            truncate: true,
        };
        config.query_growth = Some(QueryGrowth { beta: 0.1, length: 16_384 });
        return Ok(());
    };
    let beta = inner.number("llama_4_scaling_beta", "a number of at least 0", |x| x >= 0.0)?;
    let length = inner.size(ORIGINAL)?.unwrap_or(config.max_position_embeddings);
    config.query_growth = beta.filter(|beta| *beta > 0.0).map(|beta| QueryGrowth { beta, length });
    Ok(())
}

fn keys(config: &ModelConfig) -> Vec<(&'static str, GgufValue)> {
    let growth = config.query_growth.into_iter();
    growth.map(|growth| ("attention.temperature_scale", GgufValue::Number(growth.beta))).collect()
}

fn refusal(config: &ModelConfig) -> Option<GgufRefusal> {
    let length = config.query_growth?.length;
    let is_original = matches!(
        config.rope_scaling,
        RopeScaling::Yarn { original_max_position_embeddings, .. } if original_max_position_embeddings == length
    );
    let instead = "queries grow with the original context of YaRN";
    (!is_original).then_some(GgufRefusal { field: "rope_scaling.llama_4_scaling_beta", instead })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

    fn read(fields: Value) -> Result<ModelConfig, String> {
        let mut value =
            json!({ "model_type": "ministral3", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 90 });
        fields.as_object().unwrap().iter().for_each(|(key, field)| value[key] = field.clone());
        ModelConfig::from_json(Path::new("config.json"), value).map_err(|error| error.to_string())
    }

    fn yarn(more: Value) -> Value {
        let mut value = json!({ "rope_type": "yarn", "factor": 4, ORIGINAL: 32, "rope_theta": 1e6 });
        more.as_object().unwrap().iter().for_each(|(key, field)| value[key] = field.clone());
        value
    }

    #[test]
    fn growth_is_read_from_old_and_new_files() {
        for key in ["rope_parameters", "rope_scaling"] {
            let config = read(json!({ key: yarn(json!({ "llama_4_scaling_beta": 0.25 })) })).unwrap();
            assert_eq!(config.query_growth, Some(QueryGrowth { beta: 0.25, length: 32 }));
            assert_eq!(config.rope_theta, 1e6);
        }
        assert_eq!(read(json!({ "rope_parameters": yarn(json!({})) })).unwrap().query_growth, None);
    }

    #[test]
    fn llama_cpp_has_growth_beside_yarn_alone() {
        let config = read(json!({ "rope_parameters": yarn(json!({ "llama_4_scaling_beta": 0.25 })) })).unwrap();
        assert_eq!(
            (refusal(&config), keys(&config)),
            (None, vec![("attention.temperature_scale", GgufValue::Number(0.25))])
        );
        let config =
            read(json!({ "rope_parameters": {"rope_type": "default", "llama_4_scaling_beta": 0.25} })).unwrap();
        assert_eq!(refusal(&config).map(|refusal| refusal.field), Some("rope_scaling.llama_4_scaling_beta"));
    }

    #[test]
    fn a_file_that_is_silent_has_the_rotation_of_transformers() {
        let config = read(json!({})).unwrap();
        assert_eq!(config.query_growth, Some(QueryGrowth { beta: 0.1, length: 16_384 }));
        assert!(matches!(config.rope_scaling, RopeScaling::Yarn { factor: 16.0, mscale: Some(1.0), .. }));
        assert_eq!((config.rope_theta, config.num_attention_heads, config.num_key_value_heads), (1e6, 32, 8));
        assert_eq!((config.head_dim, config.layer_windows), (128, vec![None, None]));
    }

    #[test]
    fn a_growth_below_zero_is_refused() {
        let error = read(json!({ "rope_parameters": yarn(json!({ "llama_4_scaling_beta": -1 })) })).unwrap_err();
        let field = "rope_parameters.llama_4_scaling_beta";
        assert_eq!(error, format!("config.json: field \"{field}\": expected a number of at least 0, found -1"));
    }
}
