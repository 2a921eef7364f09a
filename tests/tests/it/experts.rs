//! Training a mixture of experts.

use collimate_oracle::tolerances::{FIRST_LOSS, assert_absolute, assert_relative};
use rstest::rstest;
use serde_json::{Value, json};

use crate::generation::{PROMPTS, generate};
use crate::harness::{Folder, collimate, succeed, train};
use crate::small_model::{model_arg, write_model_with};

/// NCA's loss when policy and reference are the same.
const NCA_AT_START: f64 = 2.0 * std::f64::consts::LN_2;

/// A small model with four experts, two per token.
fn model(folder: &Folder) -> String {
    let fields = json!({
        "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_local_experts": 4, "sliding_window": null,
    });
    write_model_with(&folder.path("model"), &fields);
    folder.arg("model")
}

fn data(folder: &Folder) -> String {
    let response = |i: usize, k: usize| {
        let content = format!("{} ", (i + 3) * (k + 2)).repeat(1 + (5 * k + i) % 7);
        json!({"content": content.trim(), "reward": k as f64 / 5.0})
    };
    let row = |i: usize| {
        let responses: Vec<Value> = (0..6).map(|k| response(i, k)).collect();
        json!({"prompt": format!("What is {i} times {i}?"), "responses": responses}).to_string() + "\n"
    };
    folder.write("rows.jsonl", (0..4).map(row).collect::<String>())
}

fn figure(row: &Value, name: &str) -> f64 {
    row[name].as_f64().unwrap_or_else(|| panic!("{name} in {row}"))
}

#[rstest]
#[case::all_weights(&[], "100.8MiB")]
#[case::adapter(&["use_peft=true", "lora_r=4", "lora_dropout=0.2"], "97.9MiB")]
fn the_balance_loss_is_of_a_batch_however_it_is_divided(#[case] settings: &[&str], #[case] budget: &str) {
    let folder = Folder::new();
    let (model, data) = (model(&folder), data(&folder));
    let run = |name: &str, more: &[&str]| -> Vec<Value> {
        let mut all = settings.to_vec();
        all.extend(["max_steps=4", "learning_rate=2e-3", "shuffle=false", "per_device_train_batch_size=2"]);
        all.extend(more);
        succeed(&train(&model, &data, &folder.arg(name), &all));
        folder.rows(&format!("{name}/metrics.jsonl"))
    };
    let whole = run("whole", &["router_aux_loss_coef=0.5"]);
    let divided = run("divided", &["router_aux_loss_coef=0.5", &format!("memory_budget={budget}")]);
    assert!(figure(&divided[0], "num_tokens") > figure(&whole[0], "num_tokens"), "the batch was not divided");
    for (whole, divided) in whole.iter().zip(&divided) {
        for name in ["loss", "aux_loss", "grad_norm", "logps/chosen"] {
            assert_relative(figure(divided, name), figure(whole, name), 1e-4, name);
        }
    }
    // Two of four experts: the balance loss is two if all are used equally, else more.
    let aux_loss = figure(&whole[0], "aux_loss");
    assert!((2.0..4.0).contains(&aux_loss), "{aux_loss}");
    let expected = NCA_AT_START + 0.5 * aux_loss;
    assert_absolute(figure(&whole[0], "loss"), expected, FIRST_LOSS, "loss of the first step");

    let without = run("without", &[]);
    assert!(without[0].get("aux_loss").is_none(), "{}", without[0]);
    assert_absolute(figure(&without[0], "loss"), NCA_AT_START, FIRST_LOSS, "loss of the first step");
    assert!(figure(&without[0], "grad_norm") != figure(&whole[0], "grad_norm"), "the balance loss has a gradient");
}

#[test]
fn what_was_trained_is_saved_merged_and_generates() {
    let folder = Folder::new();
    let (model, data, run) = (model(&folder), data(&folder), folder.arg("run"));
    succeed(&train(&model, &data, &run, &["use_peft=true", "lora_r=4", "max_steps=2", "learning_rate=1e-2"]));
    let config: Value = serde_json::from_str(&folder.read("run/adapter_config.json")).expect("JSON");
    let targets = json!(["gate", "k_proj", "o_proj", "q_proj", "v_proj", "w1", "w2", "w3"]);
    assert_eq!(config["target_modules"], targets);
    // PEFT refuses any other dropout on experts; the run uses the recipe's default.
    assert_eq!(config["lora_dropout"], 0.0);
    let merged = folder.arg("merged");
    succeed(&["merge", "--model", &model, "--adapter", &run, "--output", &merged]);
    let length = ["--max-new-tokens", "8"];
    let together = generate(&["--model", &model, "--adapter", &run], &PROMPTS, &length);
    assert_eq!(together, generate(&["--model", &merged], &PROMPTS, &length));
    assert_eq!(together[1..], generate(&["--model", &merged], &PROMPTS[1..], &length));
}

#[test]
fn a_balance_loss_without_experts_is_refused() {
    let folder = Folder::new();
    let (data, run) = (data(&folder), folder.arg("run"));
    let outcome = collimate(&train(model_arg(), &data, &run, &["router_aux_loss_coef=0.1"]));
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    let expected = "key \"router_aux_loss_coef\": is for models whose router picks experts, and llama has none";
    assert!(outcome.err.contains(expected), "{}", outcome.err);
}
