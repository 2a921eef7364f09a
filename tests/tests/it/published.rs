//! `collimate plan` on the configurations of published models (`tests/published`), of older and newer versions of transformers.

use std::fs;
use std::path::Path;

use rstest::rstest;
use serde_json::Value;

use crate::harness::{Folder, succeed};

/// Parameters of the text model in billions, as the model's card or report has them; of Ministral 3, whose card cuts it to 8.4,
/// as transformers counts them.
#[rstest]
#[case::qwen3_moe("qwen3-30b-a3b", 30.5)]
#[case::gemma3("gemma-3-1b-it", 1.0)]
#[case::gemma3_nested("gemma-3-4b-it", 3.884)]
#[case::olmo3("olmo-3-7b", 7.3)]
#[case::granite("granite-3.1-8b-instruct", 8.17)]
#[case::gpt_oss("gpt-oss-20b", 20.91)]
#[case::glm4_moe("glm-4.5-air", 106.0)]
#[case::qwen3_5("qwen3.5-27b", 27.0)]
#[case::qwen3_5_moe("qwen3.5-35b-a3b", 35.0)]
fn a_model_is_planned_from_its_configuration(
    #[case] name: &str,
    #[case] billions: f64,
    #[values("", ".v5")] version: &str,
) {
    check(&format!("{name}{version}"), billions);
}

/// 8.29 billion parameters with the tower, as the model's card has them.
#[test]
fn a_model_with_a_vision_tower_is_planned_from_its_configuration() {
    check("qwen2-vl-7b-instruct", 8.29);
}

/// Full fine-tuning in bfloat16 holds 2 bytes a parameter for the passes, and 4 each for the master, the gradient and two moments.
#[rstest]
fn the_recipes_of_spy_are_planned_on_paper(#[values("nca", "dpo", "nca-p")] name: &str) {
    let folder = Folder::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("published/qwen2-vl-7b-instruct.json");
    folder.write("paper/config.json", fs::read_to_string(source).expect("a configuration"));
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../configs/spy-qwen2-vl-{name}.yaml"));
    let (recipe, model) = (recipe.display().to_string(), folder.arg("paper"));
    let args = ["plan", &recipe, "--json", "--quiet", "--num-responses", "2", "--model", &model];
    let settings = ["--set", "max_length=2048", "--set", "memory_budget=2TiB"];
    let plan: Value = serde_json::from_str(&succeed(&[&args[..], &settings].concat()).out).expect("JSON");
    let parameters = plan["model"]["num_parameters"].as_f64().expect("a number");
    assert_eq!(plan["model"]["num_trained"], plan["model"]["num_parameters"], "nothing is frozen: {plan}");
    let held = ["weights", "gradients", "moments"].map(|part| plan["memory"][part].as_f64().expect("bytes"));
    assert_eq!(held.map(|bytes| (bytes / parameters).round()), [2.0 + 4.0, 4.0, 2.0 * 4.0], "{plan}");
}

#[test]
fn a_model_in_fp8_with_static_scales_is_planned_from_its_configuration() {
    check("ministral-3-8b", 8.49);
}

/// Plans a small adapter for the model, beside which its own parameters are all that counts.
fn check(name: &str, billions: f64) {
    let folder = Folder::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("published/{name}.json"));
    folder.write("paper/config.json", fs::read_to_string(source).expect("a configuration"));
    let settings = ["use_peft=true", "lora_r=1", "lora_target_modules=[q_proj]", "memory_budget=2TiB"];
    let mut args = vec!["plan", "--json", "--quiet", "--num-responses", "4", "--model"];
    let model = folder.arg("paper");
    args.push(&model);
    args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    let plan: Value = serde_json::from_str(&succeed(&args).out).expect("JSON");
    let found = plan["model"]["num_parameters"].as_f64().expect("a number") / 1e9;
    assert!((found / billions - 1.0).abs() < 0.01, "{name}: {found:.3} B, not {billions} B");
    assert_eq!(plan["memory"]["fits"], true, "{plan}");
}
