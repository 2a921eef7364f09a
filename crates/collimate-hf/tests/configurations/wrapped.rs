//! Text models inside image-and-text folders.

use std::path::Path;

use collimate_hf::ModelConfig;
use rstest::rstest;
use serde_json::{Value, json};

fn gemma3(text: Value, top: Value) -> Result<ModelConfig, String> {
    let mut inner = json!({
        "model_type": "gemma3_text", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 90, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "eos_token_id": 7,
    });
    text.as_object().unwrap().iter().for_each(|(key, field)| inner[key] = field.clone());
    let mut value = json!({
        "model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "text_config": inner,
        "vision_config": {"hidden_size": 32}, "dtype": "bfloat16",
    });
    top.as_object().unwrap().iter().for_each(|(key, field)| value[key] = field.clone());
    ModelConfig::from_json(Path::new("config.json"), value).map_err(|error| error.to_string())
}

#[test]
fn the_nested_fields_are_the_text_models_and_names_are_those_of_the_class() {
    let config = gemma3(json!({}), json!({})).unwrap();
    assert_eq!((config.family.model_type, config.hidden_size, config.vocab_size), ("gemma3_text", 64, 90));
    assert_eq!(config.embedding().name, "model.language_model.embed_tokens.weight");
    let block = config.block(1);
    assert_eq!(block.linears()[0].module, "model.language_model.layers.1.self_attn.q_proj");
    assert_eq!((config.dtype.as_deref(), config.tie_word_embeddings), (Some("bfloat16"), true));
    assert_eq!(config.eos_token_ids, [7]);
}

#[test]
fn what_the_outer_file_says_about_ends_and_the_output_layer_counts() {
    let top = json!({ "eos_token_id": [1, 106], "tie_word_embeddings": false });
    let config = gemma3(json!({ "tie_word_embeddings": true }), top).unwrap();
    assert_eq!((config.eos_token_ids, config.tie_word_embeddings), (vec![1, 106], false));
}

#[test]
fn changes_are_made_where_the_file_has_the_field() {
    let config = gemma3(json!({}), json!({})).unwrap().with_vocab_size(96).untied();
    assert_eq!((&config.raw["text_config"]["vocab_size"], config.raw.get("vocab_size")), (&json!(96), None));
    assert_eq!(config.raw["tie_word_embeddings"], json!(false));
}

#[rstest]
#[case(json!({ "hidden_size": 0 }), "text_config.hidden_size")]
#[case(json!({ "rope_scaling": {"rope_type": "linear", "factor": 0.5} }), "text_config.rope_scaling.factor")]
#[case(json!({ "model_type": "llama" }), "text_config.model_type")]
#[case(json!({ "quantization_config": {"quant_method": "bitsandbytes"} }), "text_config.quantization_config")]
fn a_wrong_field_is_named_with_the_object_that_it_is_in(#[case] text: Value, #[case] field: &str) {
    let error = gemma3(text, json!({})).unwrap_err();
    assert!(error.starts_with(&format!("config.json: field \"{field}\": ")), "{error}");
}

#[test]
fn a_folder_without_a_text_model_is_refused() {
    let error = gemma3(json!({}), json!({ "text_config": null })).unwrap_err();
    let expected = "field \"text_config\": expected an object with the text model's configuration, found null";
    assert_eq!(error, format!("config.json: {expected}"));
}

#[test]
fn adapters_of_other_classes_are_of_the_same_modules() {
    let config = gemma3(json!({}), json!({})).unwrap();
    let here = |name: &str| config.wrapper.unwrap().name_here(name);
    let expected = "model.language_model.layers.1.self_attn.q_proj";
    for name in ["model.layers.1.self_attn.q_proj", "language_model.model.layers.1.self_attn.q_proj", expected] {
        assert_eq!(here(name), expected);
    }
    assert_eq!(here("model.vision_tower.layers.1.q_proj"), "model.vision_tower.layers.1.q_proj");
    assert_eq!(here("lm_head"), "lm_head");
}
