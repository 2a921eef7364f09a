//! The `quantization_config` of config.json: what is read, and what is refused by name.

use collimate_quantized::{FourBitKind, QuantizationConfig, QuantizationMethod, ZeroPoints};
use rstest::rstest;
use serde_json::{Value, json};

fn method(config: Value) -> QuantizationMethod {
    QuantizationConfig::from_json(&config).map(|config| config.method).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn published_configurations_are_read() {
    let nf4 = json!({
        "_load_in_4bit": true, "_load_in_8bit": false, "bnb_4bit_compute_dtype": "bfloat16",
        "bnb_4bit_quant_storage": "uint8", "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": true,
        "llm_int8_skip_modules": ["lm_head"], "load_in_4bit": true, "load_in_8bit": false, "quant_method": "bitsandbytes",
    });
    let config = QuantizationConfig::from_json(&nf4).unwrap();
    let compute_dtype = Some("bfloat16".to_owned());
    assert_eq!(config.method, QuantizationMethod::FourBit { kind: FourBitKind::Nf4, double: true, compute_dtype });
    assert_eq!(config.skipped_modules, ["lm_head"]);
    // bitsandbytes' own default is FP4; before 2024 there was no quant_method.
    let fp4 = QuantizationMethod::FourBit { kind: FourBitKind::Fp4, double: false, compute_dtype: None };
    assert_eq!(method(json!({"load_in_4bit": true})), fp4);
    assert_eq!(method(json!({"quant_method": "bitsandbytes", "load_in_8bit": true})), QuantizationMethod::Int8);
    let fp8 =
        json!({"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 64]});
    assert_eq!(method(fp8), QuantizationMethod::Fp8 { block: Some([128, 64]) });
    // Ministral 3.
    let fp8 = json!({
        "activation_scheme": "static", "dequantize": false, "quant_method": "fp8", "weight_block_size": null,
        "modules_to_not_convert": ["model.vision_tower", "model.multi_modal_projector", "lm_head"],
    });
    assert_eq!(method(fp8), QuantizationMethod::Fp8 { block: None });
    assert_eq!(method(json!({"quant_method": "mxfp4", "modules_to_not_convert": null})), QuantizationMethod::Mxfp4);
    let gptq =
        json!({"bits": 4, "group_size": -1, "desc_act": true, "quant_method": "gptq", "checkpoint_format": "gptq_v2"});
    assert_eq!(method(gptq), QuantizationMethod::Gptq { bits: 4, group: None, zero_points: ZeroPoints::Plain });
    let gptq = json!({"bits": 8, "group_size": 64, "quant_method": "gptq"});
    assert_eq!(method(gptq), QuantizationMethod::Gptq { bits: 8, group: Some(64), zero_points: ZeroPoints::LessOne });
    let awq = json!({"bits": 4, "group_size": 128, "quant_method": "awq", "version": "GEMM", "zero_point": true});
    assert_eq!(method(awq), QuantizationMethod::Awq { group: Some(128) });
}

#[rstest]
#[case(json!({"quant_method": "hqq"}), "quant_method: \"hqq\" is not supported")]
#[case(json!({"quant_method": "aqlm"}), "\"aqlm\" is not supported")]
#[case(json!({"quant_method": "eetq"}), "\"eetq\" is not supported")]
#[case(json!({"quant_method": "compressed-tensors"}), "\"compressed-tensors\" is not supported")]
#[case(json!({"quant_method": "torchao"}), "\"torchao\" is not supported")]
#[case(json!({"quant_method": "bitnet"}), "\"bitnet\" is not supported: expected bitsandbytes, fp8")]
#[case(json!({"quant_method": "gguf"}), "\"gguf\" is not supported")]
#[case(json!({}), "quant_method: missing")]
#[case(json!([]), "expected an object")]
#[case(json!({"quant_method": 4}), "quant_method: expected text, found a number")]
#[case(json!({"quant_method": "bitsandbytes"}), "neither load_in_4bit nor load_in_8bit")]
#[case(json!({"load_in_4bit": true, "load_in_8bit": true}), "both load_in_4bit and load_in_8bit")]
#[case(json!({"load_in_4bit": "yes"}), "load_in_4bit: expected true or false, found text")]
#[case(json!({"load_in_4bit": true, "bnb_4bit_quant_type": "int4"}), "bnb_4bit_quant_type: \"int4\"")]
#[case(json!({"quant_method": "fp8", "weight_block_size": [128, 0]}), "weight_block_size: expected two numbers")]
#[case(json!({"quant_method": "fp8", "activation_scheme": "online"}), "activation_scheme: \"online\" is not supported")]
#[case(json!({"quant_method": "fp8", "fmt": "e5m2"}), "fmt: \"e5m2\" is not supported")]
#[case(json!({"quant_method": "gptq", "bits": 5}), "bits: 5: expected 2, 3, 4 or 8")]
#[case(json!({"quant_method": "gptq", "bits": 4, "group_size": 0}), "group_size: 0: expected a number above 0, or -1")]
#[case(json!({"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}), "\"marlin\" is not supported")]
#[case(json!({"quant_method": "gptq", "bits": 4, "dynamic": {"-:lm_head": {}}}), "dynamic: settings that differ")]
#[case(json!({"quant_method": "awq", "bits": 4, "version": "gemv"}), "version: \"gemv\" is not supported: expected gemm")]
#[case(json!({"quant_method": "awq", "bits": 4, "zero_point": false}), "zero_point: AWQ without zero points")]
#[case(json!({"quant_method": "awq", "bits": 3}), "bits: 3: expected 4")]
#[case(json!({"quant_method": "mxfp4", "modules_to_not_convert": "lm_head"}), "modules_to_not_convert: expected a list")]
fn what_is_not_read_is_refused_by_name(#[case] config: Value, #[case] expected: &str) {
    let error = QuantizationConfig::from_json(&config).unwrap_err().to_string();
    assert!(error.starts_with("quantization_config.") && error.contains(expected), "{error}");
}
