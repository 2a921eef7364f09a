//! A run that starts from an adapter, and keys of its recipe that say otherwise.

use std::fs;
use std::path::Path;

use collimate_peft::LoraConfig;
use rstest::rstest;

use crate::harness::{Folder, collimate, succeed};
use crate::small_model::{adapter_arg, model_arg};

const ROW: &str =
    r#"{"prompt": "2 + 2 =", "responses": [{"content": " 4", "reward": 1}, {"content": " 5", "reward": 0}]}"#;

/// Trains a step with these keys in a recipe of its own.
fn train(folder: &Folder, keys: &str, output: &str) -> (i32, String) {
    let data = folder.write("rows.jsonl", format!("{ROW}\n"));
    let recipe = folder.write("recipe.yaml", keys);
    let output = folder.arg(output);
    let args = ["train", &recipe, "--model", model_arg(), "--data", &data, "--output", &output, "--set", "max_steps=1"];
    let outcome = collimate(&args);
    (outcome.code, outcome.err)
}

fn settings(folder: &Folder, output: &str) -> LoraConfig {
    LoraConfig::from_dir(&folder.path(output)).expect("an adapter")
}

/// What the recipe says about a fresh adapter is what PEFT will read.
#[test]
fn settings_of_a_fresh_adapter_are_written_and_trained_on() {
    let folder = Folder::new();
    let keys = "use_peft: true\nlora_r: 4\nlora_alpha: 8\nlora_dropout: 0\nlora_target_modules: [q_proj, v_proj, down_proj]\n\
                lora_exclude_modules: ['layers.0.mlp.down_proj']\nlora_rank_pattern: {v_proj: 2}\n\
                lora_alpha_pattern: {'\\w+\\.q_proj': 16}\nuse_dora: true\nlora_modules_to_save: [lm_head]\n";
    let (code, err) = train(&folder, keys, "first");
    assert_eq!(code, 0, "{err}");
    let first = settings(&folder, "first");
    let queries = "model.layers.0.self_attn.q_proj";
    assert_eq!((first.rank_of("model.layers.1.self_attn.v_proj"), first.scale_of(queries)), (2, 16.0 / 4.0));
    assert!(first.use_dora && first.modules_to_save == ["lm_head"]);
    assert!(!first.matches("model.layers.0.mlp.down_proj") && first.matches("model.layers.1.mlp.down_proj"));
    // The next run starts from it and repeats none of that.
    let (code, err) = train(&folder, &format!("adapter: {}\n", folder.arg("first")), "second");
    assert_eq!(code, 0, "{err}");
    let base = |config: LoraConfig| LoraConfig { base_model_name_or_path: None, dropout: 0.0, ..config };
    assert_eq!(base(settings(&folder, "second")), base(first));
    let resolved = folder.read("second/recipe.yaml");
    for line in ["lora_r: 4", "use_dora: true", "v_proj: 2", "- down_proj"] {
        assert!(resolved.contains(line), "{line}: {resolved}");
    }
    // A resolved recipe is not contradicted by what it was resolved from.
    let args = ["train", &folder.arg("second/recipe.yaml"), "--output", &folder.arg("third")];
    succeed(&args);
    let written = |name: &str| fs::read(folder.path(name).join("adapter_model.safetensors")).expect("a file");
    assert_eq!(written("third"), written("second"));
}

#[rstest]
#[case("lora_r: 8\n")]
#[case("lora_alpha: 16\n")]
#[case("lora_target_modules: all-linear\n")]
#[case("lora_dropout: 0.25\n")]
fn the_same_and_what_is_not_the_adapters_may_be_said(#[case] keys: &str) {
    let folder = Folder::new();
    let (code, err) = train(&folder, &format!("adapter: {}\n{keys}", adapter_arg()), "out");
    assert_eq!(code, 0, "{err}");
}

#[rstest]
#[case("lora_r: 4\n", "\"lora_r\": is 4, but", "has 8: ")]
#[case("lora_alpha: 8\n", "\"lora_alpha\": is 8.0", "has 16.0: ")]
#[case("lora_target_modules: [q_proj]\n", "\"lora_target_modules\": is [\"q_proj\"]", "has [\"down_proj\"")]
#[case("use_dora: true\n", "\"use_dora\": is true", "has false: ")]
#[case("lora_modules_to_save: [lm_head]\n", "\"lora_modules_to_save\": is [\"lm_head\"]", "has []: ")]
#[case("lora_rank_pattern: {v_proj: 3}\n", "\"lora_rank_pattern\": is {\"v_proj\":3}", "has {}: ")]
fn a_key_that_contradicts_the_start_adapter_names_both(#[case] keys: &str, #[case] key: &str, #[case] adapters: &str) {
    let folder = Folder::new();
    let (code, err) = train(&folder, &format!("adapter: {}\n{keys}", adapter_arg()), "out");
    assert_eq!(code, 2, "{err}");
    let err: String = err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(err.contains("recipe.yaml:2:") && err.contains("adapter_config.json"), "{err}");
    assert!(err.contains(key) && err.contains(adapters), "{err}");
    assert!(!Path::new(&folder.arg("out")).join("metrics.jsonl").exists());
}

#[rstest]
#[case("lora_exclude_modules: [c_proj]\n", "exclude_modules: \"c_proj\" matches nothing")]
#[case("lora_layers_to_transform: [7]\n", "layers_to_transform: \"7\" matches nothing")]
#[case("lora_rank_pattern: {c_proj: 3}\n", "rank_pattern: \"c_proj\" matches nothing")]
#[case("lora_alpha_pattern: {'(': 3}\n", "is not a regular expression")]
#[case("lora_modules_to_save: [score]\n", "modules_to_save: \"score\" matches nothing")]
#[case("lora_layers_pattern: [layers]\n", "lora_layers_to_transform")]
#[case("use_dora: true\nlora_target_modules: [q_proj, embed_tokens]\n", "not supported together")]
fn settings_that_match_nothing_or_are_not_supported_are_refused(#[case] keys: &str, #[case] expected: &str) {
    let folder = Folder::new();
    let (code, err) = train(&folder, &format!("use_peft: true\n{keys}"), "out");
    assert_eq!(code, 2, "{err}");
    let err: String = err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(err.contains(expected), "{err}");
}
