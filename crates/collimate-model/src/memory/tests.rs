use std::path::Path;

use burn_flex::{Flex, FlexDevice};
use collimate_backend::PreparedBytes;
use collimate_hf::HostTensor;
use collimate_peft::LoraTargets;
use collimate_quantized::Format;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::causal_lm::Placement;

const WIDTH: u64 = 16;
const INNER: u64 = 24;
const QUERIES: u64 = 16;
const KEYS: u64 = 8;

fn costs(fields: Value) -> MemoryCosts {
    let mut config = json!({
        "vocab_size": 32, "hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": 2, "head_dim": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    });
    fields.as_object().expect("fields").iter().for_each(|(key, field)| config[key] = field.clone());
    let config = ModelConfig::from_json(Path::new("config.json"), config).expect("a sound config");
    let zeros = |info: &crate::ParameterInfo| Ok(HostTensor::zeros(info.file_shape.clone()));
    let placement = Placement { device: FlexDevice, dtype: ComputeDtype::Float32 };
    CausalLm::<Flex>::new(config, None, Trainable::Base, placement, zeros).expect("a model").memory_costs()
}

#[test]
fn a_block_keeps_more_with_more_norms_or_more_experts_per_token() {
    let kept = |fields: Value| costs(fields).per_kept_block / FLOAT;
    let llama = kept(json!({ "model_type": "llama" }));
    assert_eq!(llama, 2 * QUERIES + 2 * KEYS + WIDTH + 2 * INNER + 4);
    assert_eq!(kept(json!({ "model_type": "phi3" })), llama);
    assert_eq!(kept(json!({ "model_type": "gemma2" })), llama + 2 * WIDTH, "two outputs before their norms");
    let olmo2 = kept(json!({ "model_type": "olmo2" }));
    assert_eq!(olmo2, llama + 2 * WIDTH + QUERIES + KEYS, "and queries and keys before theirs");
    let mixtral = kept(json!({ "model_type": "mixtral", "num_local_experts": 5, "num_experts_per_tok": 3 }));
    assert_eq!(mixtral, llama + 2 * 2 * INNER + 2 * 5 + 3, "gate and up of three experts, and the router's choice");
    let glm4_moe = kept(json!({
        "model_type": "glm4_moe", "n_routed_experts": 5, "num_experts_per_tok": 3, "moe_intermediate_size": INNER,
        "first_k_dense_replace": 0,
    }));
    assert_eq!(glm4_moe, mixtral + 5 + 2 * INNER + 1, "sigmoids, gate and up of the shared expert, and its share");
}

#[test]
fn all_experts_are_resident_whether_or_not_a_token_picks_them() {
    let resident = |experts: u64| {
        let fields = json!({ "model_type": "mixtral", "num_local_experts": experts, "num_experts_per_tok": 1 });
        costs(fields).resident
    };
    // Three matrices and a row of the router for each of two layers; parameter, gradient and two moments.
    assert_eq!(resident(5) - resident(4), 4 * FLOAT * 2 * (3 * INNER * WIDTH + WIDTH));
}

/// A backend that unpacks by panels and reads plain weights as they are.
const BY_PANELS: WeightCosts = WeightCosts { unpacking: |_, _| 0, prepared: |_, _| None };

fn config(qk_norm: bool) -> ModelConfig {
    let model_type = if qk_norm { "qwen3" } else { "llama" };
    let value = json!({
        "model_type": model_type, "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "max_position_embeddings": 64,
        "tie_word_embeddings": false,
    });
    ModelConfig::from_json(Path::new("config.json"), value).expect("a configuration")
}

#[rstest]
fn costs_are_the_same_with_and_without_loading_the_model(
    #[values(Trainable::Nothing, Trainable::Base, Trainable::Adapter)] trainable: Trainable,
    #[values(false, true)] qk_norm: bool,
    #[values(ComputeDtype::Float32, ComputeDtype::Bfloat16)] dtype: ComputeDtype,
) {
    let lora = (trainable == Trainable::Adapter).then(|| LoraConfig::new(2, 4.0, LoraTargets::AllLinear));
    let config = config(qk_norm);
    let zeros = |info: &crate::ParameterInfo| {
        let len = info.file_shape.iter().product();
        Ok(HostTensor::new(info.file_shape.clone(), vec![0.0; len]))
    };
    let placement = Placement { device: FlexDevice, dtype };
    let model = CausalLm::<Flex>::new(config.clone(), lora.clone(), trainable, placement, zeros);
    let loaded = model.expect("a model").memory_costs();
    assert_eq!(MemoryCosts::new(&config, lora.as_ref(), trainable, dtype, WeightCosts::of::<Flex>()), loaded);
}

#[test]
fn bfloat16_halves_weights_and_adds_masters_of_trained_ones() {
    let (config, bfloat16) = (config(false), ComputeDtype::Bfloat16);
    let lora = LoraConfig::new(2, 4.0, LoraTargets::AllLinear);
    let costs = |lora: Option<&LoraConfig>, trainable| MemoryCosts::new(&config, lora, trainable, bfloat16, BY_PANELS);
    let vectors = (2 * 3 + 1) * 16;
    let matrices = ParameterCounts::new(&config, None, Trainable::Base).base - vectors;
    assert_eq!(costs(None, Trainable::Nothing).resident, 2 * matrices + 4 * vectors);
    let full = costs(None, Trainable::Base);
    assert_eq!(full.weights, (2 + 4) * matrices + 4 * vectors);
    assert_eq!(full.resident - full.weights, 3 * 4 * (matrices + vectors), "gradients and moments in float32");
    // Both factors of four linear layers of attention and three of the rest, in each of three blocks.
    let adapter = 3 * 2 * (2 * (16 + 16) + 2 * (16 + 8) + 3 * (16 + 24));
    let with_adapter = costs(Some(&lora), Trainable::Adapter);
    assert_eq!(with_adapter.resident, 2 * matrices + 4 * vectors + 4 * 4 * adapter);
    let in_float32 = MemoryCosts::new(&config, None, Trainable::Base, ComputeDtype::Float32, BY_PANELS);
    assert_eq!(2 * full.per_kept_block, in_float32.per_kept_block);
}

#[test]
fn parameters_are_counted_without_loading_the_model() {
    let lora = LoraConfig::new(2, 4.0, LoraTargets::Names(vec!["q_proj".to_owned()]));
    let counts = ParameterCounts::new(&config(false), Some(&lora), Trainable::Adapter);
    // Two embeddings; queries and output, keys and values, gate, up and down, two norms; the last norm.
    let block = 2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 24 + 2 * 16;
    assert_eq!(counts.base, 2 * 50 * 16 + 3 * block + 16);
    assert_eq!((counts.adapter, counts.trained), (3 * 2 * (16 + 16), 3 * 2 * (16 + 16)));
}

#[test]
fn the_largest_weight_that_is_unpacked_for_a_product_is_counted() {
    let lora = LoraConfig::new(2, 4.0, LoraTargets::AllLinear);
    let unpacking = |format: Option<Format>, dtype: ComputeDtype| if format.is_some() { dtype.num_bytes() } else { 6 };
    let whole = WeightCosts { unpacking, ..BY_PANELS };
    let costs = |config: &ModelConfig, unpacking| {
        MemoryCosts::new(config, Some(&lora), Trainable::Adapter, ComputeDtype::Bfloat16, unpacking)
    };
    let plain = config(false);
    assert_eq!(costs(&plain, whole), costs(&plain, BY_PANELS), "nothing is unpacked");
    let packed = plain.packed_into(Format::NF4).expect("a format to pack into");
    // Gate, up and down are the largest weights.
    let taken = costs(&packed, whole);
    assert_eq!(taken.unpacking, 2 * 16 * 24);
    assert_eq!(taken.resident, costs(&packed, BY_PANELS).resident + taken.unpacking);
    let in_files = ModelConfig { weights_in_files: true, ..plain };
    assert_eq!(costs(&in_files, whole).unpacking, 6 * 16 * 24);
    assert_eq!(costs(&in_files, BY_PANELS).unpacking, 0);
}

#[test]
fn weights_in_an_order_of_their_own_are_counted_as_they_are_held() {
    let prepared = |[rows, columns]: [usize; 2], dtype: ComputeDtype| {
        let bytes = |rows: usize, columns: usize| (2 * rows * columns) as u64;
        let is_narrow = dtype == ComputeDtype::Bfloat16;
        is_narrow.then(|| PreparedBytes { held: bytes(rows + 1, columns), rearranged: bytes(rows, columns) })
    };
    let ordered = WeightCosts { prepared, ..BY_PANELS };
    let lora = LoraConfig::new(2, 4.0, LoraTargets::AllLinear);
    let costs = |weights, dtype| MemoryCosts::new(&config(false), Some(&lora), Trainable::Adapter, dtype, weights);
    let [found, plain] = [ordered, BY_PANELS].map(|weights| costs(weights, ComputeDtype::Bfloat16));
    // Another row for each of four linear layers of attention and three of the rest, in each of three blocks.
    let added = 3 * 2 * (6 * 16 + 24);
    assert_eq!(found.weights - plain.weights, added);
    // Gate, up and down are the largest weights.
    assert_eq!((found.unpacking, plain.unpacking), (2 * 16 * 24, 0));
    assert_eq!(found.resident - plain.resident, added + found.unpacking);
    let float32 = ComputeDtype::Float32;
    assert_eq!(costs(ordered, float32), costs(BY_PANELS, float32), "an adapter's matrices and all in float32");
}
