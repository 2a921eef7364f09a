use std::path::Path;

use serde_json::json;

use super::*;

fn model() -> ModelConfig {
    let value = json!({
        "model_type": "qwen3_moe", "hidden_size": 4, "num_attention_heads": 2, "num_hidden_layers": 2, "num_experts": 3,
        "num_experts_per_tok": 2, "moe_intermediate_size": 2, "vocab_size": 9, "mlp_only_layers": [0], "num_key_value_heads": 1,
    });
    ModelConfig::from_json(Path::new("config.json"), value).unwrap()
}

fn gpt_oss() -> ModelConfig {
    let value = json!({
        "model_type": "gpt_oss", "hidden_size": 4, "intermediate_size": 2, "num_attention_heads": 2, "head_dim": 2,
        "num_key_value_heads": 1, "num_hidden_layers": 1, "num_local_experts": 3, "num_experts_per_tok": 2, "vocab_size": 9,
    });
    ModelConfig::from_json(Path::new("config.json"), value).unwrap()
}

fn counted(shape: &[usize]) -> HostTensor {
    HostTensor::new(shape, (0..shape.iter().product::<usize>()).map(|i| i as f32).collect())
}

#[test]
fn names_and_shapes_are_those_of_peft() {
    let names = |wanted: &[&str]| -> Vec<(String, Vec<usize>)> {
        let is_targeted = |parameter: &str| wanted.iter().any(|name| parameter.ends_with(name));
        let rank = |parameter: &str| if parameter.ends_with("gate_up_proj") { 4 } else { 2 };
        tensors(&model(), is_targeted, rank).into_iter().map(|x| (x.spec.name, x.spec.shape)).collect()
    };
    let module = "base_model.model.model.layers.1.mlp.experts";
    let inner = [
        (format!("{module}.base_layer.lora_A.weight"), vec![3 * 4, 4]),
        (format!("{module}.base_layer.lora_B.weight"), vec![2 * 2, 4 * 3]),
    ];
    let outer =
        [(format!("{module}.lora_A.weight"), vec![3 * 2, 2]), (format!("{module}.lora_B.weight"), vec![4, 2 * 3])];
    assert_eq!(names(&["gate_up_proj", "down_proj"]), [inner, outer.clone()].concat());
    assert_eq!(names(&["down_proj"]), outer);
    assert!(names(&["q_proj"]).is_empty());
}

#[test]
fn an_expert_has_rows_of_a_and_every_third_column_of_b() {
    let all = tensors(&model(), |_| true, |_| 2);
    let [a, b] = [&all[0], &all[1]];
    let split_a = a.split(&counted(&a.spec.shape));
    let name = "base_model.model.model.layers.1.mlp.experts.gate_up_proj.1.lora_A.weight";
    let second = split_a.iter().find(|(found, _)| found == name).unwrap();
    assert_eq!(second.1, HostTensor::new([2, 4], (8..16).map(|i| i as f32).collect()));
    let split_b = b.split(&counted(&b.spec.shape));
    let name = "base_model.model.model.layers.1.mlp.experts.gate_up_proj.1.up.lora_B.weight";
    let up = split_b.iter().find(|(found, _)| found == name).unwrap();
    // Rows 2 and 3 of four, columns 1 and 4 of six.
    assert_eq!(up.1, HostTensor::new([2, 2], vec![13.0, 16.0, 19.0, 22.0]));
}

/// In gpt-oss the columns of `gate_up_proj` are gate and up in turn, and so are the rows of B.
#[test]
fn rows_of_b_are_in_turn_where_columns_of_the_parameter_are() {
    let model = gpt_oss();
    let all = tensors(&model, |_| true, |_| 2);
    let b = &all[1];
    assert_eq!(b.spec.shape, [2 * 2, 2 * 3]);
    let split: BTreeMap<String, HostTensor> = b.split(&counted(&b.spec.shape)).into_iter().collect();
    let of = |part: &str| {
        &split[&format!("base_model.model.model.layers.0.mlp.experts.gate_up_proj.1.{part}_in_turn.lora_B.weight")].data
    };
    // Columns 1 and 4 of rows 0 and 2, and of rows 1 and 3, of six numbers each.
    assert_eq!((of("gate"), of("up")), (&vec![1.0, 4.0, 13.0, 16.0], &vec![7.0, 10.0, 19.0, 22.0]));
    let files: BTreeMap<String, HostTensor> =
        all.iter().map(|x| (x.spec.name.clone(), counted(&x.spec.shape))).collect();
    let apart: BTreeMap<String, HostTensor> = all.iter().flat_map(|x| x.split(&files[&x.spec.name])).collect();
    assert_eq!(stack(apart), files);
}

#[test]
fn what_is_taken_apart_and_put_together_is_the_same() {
    for is_targeted in [|_: &str| true, |parameter: &str| parameter.ends_with("down_proj")] {
        let all = tensors(&model(), is_targeted, |_| 2);
        let files: BTreeMap<String, HostTensor> =
            all.iter().map(|x| (x.spec.name.clone(), counted(&x.spec.shape))).collect();
        let apart: BTreeMap<String, HostTensor> = all.iter().flat_map(|x| x.split(&files[&x.spec.name])).collect();
        assert!(apart.len() > all.len());
        assert_eq!(stack(apart), files);
    }
}
