//! Granite 3: Llama with factors on embeddings, attention scores, the residual branches, and logits.

use super::llama;
use crate::config::{Family, GgufFamily, GgufValue, ModelConfig};
use crate::error::HfError;
use crate::fields::Fields;

pub(super) const FAMILY: Family = Family {
    model_type: "granite",
    summary: "`llama` with factors on embeddings, attention scores, residuals and logits",
    gguf: Some(GgufFamily {
        architecture: "granite",
        attention_bias: llama::GGUF.attention_bias,
        mlp_bias: true,
        interleaved: true,
        attention_divisor: None,
        keys: gguf_keys,
        ..llama::PLAIN_GGUF
    }),
    read,
    ..llama::FAMILY
};

fn read(fields: Fields<'_>, config: &mut ModelConfig) -> Result<(), HfError> {
    config.embedding_scale = fields.factor("embedding_multiplier")?;
    config.attention_scale = fields.factor("attention_multiplier")?.unwrap_or(1.0);
    config.residual_scale = fields.factor("residual_multiplier")?;
    config.logit_scale = fields.factor("logits_scaling")?.map(|divisor| 1.0 / divisor);
    Ok(())
}

fn gguf_keys(config: &ModelConfig) -> Vec<(&'static str, GgufValue)> {
    let factors = [
        ("attention.scale", config.attention_scale),
        ("embedding_scale", config.embedding_scale.unwrap_or(1.0)),
        ("residual_scale", config.residual_scale.unwrap_or(1.0)),
        // A divisor there too.
        ("logit_scale", 1.0 / config.logit_scale.unwrap_or(1.0)),
    ];
    factors.map(|(key, factor)| (key, GgufValue::Number(factor))).to_vec()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn read(fields: Value) -> Result<ModelConfig, String> {
        let mut value = json!({ "model_type": "granite", "hidden_size": 64, "num_attention_heads": 4 });
        fields.as_object().unwrap().iter().for_each(|(key, field)| value[key] = field.clone());
        ModelConfig::from_json(Path::new("config.json"), value).map_err(|error| error.to_string())
    }

    #[test]
    fn factors_are_read_and_none_are_assumed() {
        let silent = read(json!({})).unwrap();
        assert_eq!((silent.embedding_scale, silent.residual_scale, silent.logit_scale), (None, None, None));
        assert_eq!(silent.attention_scale, 1.0, "not 1/√head_dim");
        let config = read(json!({
            "embedding_multiplier": 12, "attention_multiplier": 0.015625, "residual_multiplier": 0.22, "logits_scaling": 8,
        }));
        let config = config.unwrap();
        assert_eq!((config.embedding_scale, config.residual_scale), (Some(12.0), Some(0.22)));
        assert_eq!((config.attention_scale, config.logit_scale), (1.0 / 64.0, Some(1.0 / 8.0)));
        let keys = gguf_keys(&config).into_iter().map(|(_, value)| value);
        assert!(keys.eq([0.015625, 12.0, 0.22, 8.0].map(GgufValue::Number)));
    }

    #[rstest]
    #[case("embedding_multiplier")]
    #[case("attention_multiplier")]
    #[case("residual_multiplier")]
    #[case("logits_scaling")]
    fn a_factor_of_zero_is_refused(#[case] key: &str) {
        let error = read(json!({ key: 0 })).unwrap_err();
        let expected = format!("config.json: field \"{key}\": expected a number from 0.001 to 1000000, found 0");
        assert_eq!(error, expected);
    }
}
