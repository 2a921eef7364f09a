//! Parsing, defaults and errors with their places.

use std::fs;
use std::path::PathBuf;

use rstest::rstest;
use serde_json::json;

use crate::*;

fn parse(text: &str, overrides: &[(&str, &str)]) -> Result<Recipe, RecipeError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("r.yaml");
    fs::write(&path, text).expect("a file");
    let overrides: Vec<_> = overrides.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    Recipe::parse(Some(&path), &overrides).map(|parsed| parsed.recipe)
}

/// The error's text without the folder.
fn error(text: &str) -> String {
    let message = parse(text, &[]).expect_err("a broken recipe").to_string();
    message.split_once("r.yaml:").map(|(_, rest)| rest.to_owned()).unwrap_or(message)
}

#[test]
fn nothing_means_the_defaults() {
    assert_eq!(parse("", &[]).expect("a recipe"), Recipe::default());
    assert_eq!(Recipe::parse(None, &[]).expect("a recipe").recipe, Recipe::default());
}

#[test]
fn the_resolved_recipe_reads_back_equal() {
    let text = "objective: {name: infonca, beta: 0.01, alpha: 1}\nlearning_rate: 5e-7\nuse_peft: true\n\
                lora_target_modules: [q_proj, v_proj]\neval_strategy: epoch\nsave_total_limit: 2\nmax_steps: 7\n";
    let recipe = parse(text, &[]).expect("a recipe");
    assert_eq!(recipe.learning_rate, 5e-7);
    assert_eq!(parse(&recipe.resolved_yaml().expect("YAML"), &[]).expect("a recipe"), recipe);
    let default = Recipe::default();
    assert_eq!(parse(&default.resolved_yaml().expect("YAML"), &[]).expect("a recipe"), default);
}

#[rstest]
#[case("loss_type: sigmoid\nbeta: 0.2\n", "dpo", json!({"beta": 0.2}))]
#[case("beta: 0.01\ntemperature_alpha: 1e-4\nloss_type: InfoNCA\n", "infonca", json!({"beta": 0.01, "alpha": 1e-4}))]
#[case("objective: nca\n", "nca", json!({}))]
#[case("objective:\n  name: nca\n  beta: 0.5\nbeta: 0.1\n", "nca", json!({"beta": 0.1}))]
fn flat_keys_are_folded_into_the_objective(#[case] text: &str, #[case] name: &str, #[case] params: serde_json::Value) {
    let objective = parse(text, &[]).expect("a recipe").objective;
    assert_eq!((objective.name.as_str(), serde_json::Value::Object(objective.params)), (name, params));
}

#[test]
fn arguments_win_over_the_file() {
    let overrides =
        [("objective.beta", "0.05"), ("alpha", "2"), ("seed", "7"), ("dtype", "bfloat16"), ("output_dir", "2024")];
    let recipe = parse("objective: {name: nca, beta: 1}\nseed: 1\n", &overrides).expect("a recipe");
    assert_eq!(recipe.objective.number("beta"), Some(0.05));
    assert_eq!(recipe.objective.number("alpha"), Some(2.0));
    assert_eq!(recipe.output_dir, PathBuf::from("2024"));
    assert_eq!((recipe.seed, recipe.torch_dtype.as_deref()), (7, Some("bfloat16")));
}

#[test]
fn another_objective_drops_the_parameters_of_the_first() {
    let recipe = parse("objective: {name: nca, alpha: 1}\n", &[("objective", "dpo")]).expect("a recipe");
    assert_eq!(recipe.objective, ObjectiveSpec::named("dpo"));
}

#[rstest]
#[case("seed: 1\nlearning_rat: 1\n", "2:1: unknown key \"learning_rat\"; did you mean \"learning_rate\"?")]
#[case("xyzzy: 1\n", "1:1: unknown key \"xyzzy\"")]
#[case("learning_rate: fast\n", "1:1: key \"learning_rate\": expected a number, found \"fast\"")]
#[case("learning_rate: -1\n", "1:1: key \"learning_rate\": must be at least 0, is -1")]
#[case("warmup_ratio: 1.5\n", "1:1: key \"warmup_ratio\": must be in [0, 1], is 1.5")]
#[case("lora_r: 2.5\n", "1:1: key \"lora_r\": expected a whole number of at least 0, found 2.5")]
#[case("max_steps: 0\n", "1:1: key \"max_steps\": must be at least 1, or -1 for whole epochs, is 0")]
#[case("a\n", "1:1: not a recipe: expected a table of keys, found \"a\"")]
fn errors_name_place_and_key(#[case] text: &str, #[case] expected: &str) {
    let found = error(text);
    assert!(found.starts_with(expected), "{found}");
}

#[test]
fn the_model_and_the_data_are_asked_for_by_name() {
    let recipe = Recipe::default();
    let message = recipe.model().expect_err("no model").to_string();
    assert!(message.contains("model_name_or_path") && message.contains("--model"), "{message}");
    assert!(recipe.data_sources().is_err());
}

#[rstest]
#[case(10, "per_device_train_batch_size: 4\n", StepCounts { steps_per_epoch: 3, total_steps: 3, warmup_steps: 1 })]
#[case(8, "per_device_train_batch_size: 2\ngradient_accumulation_steps: 2\nnum_train_epochs: 2.5\n",
       StepCounts { steps_per_epoch: 2, total_steps: 5, warmup_steps: 1 })]
#[case(8, "max_steps: 50\nwarmup_steps: 3\n", StepCounts { steps_per_epoch: 2, total_steps: 50, warmup_steps: 3 })]
fn steps_are_counted(#[case] num_groups: usize, #[case] text: &str, #[case] expected: StepCounts) {
    assert_eq!(parse(text, &[]).expect("a recipe").step_counts(num_groups), expected);
}

#[test]
fn every_key_is_documented_and_can_be_set() {
    let table = serde_yaml_ng::to_value(Recipe::default()).expect("YAML");
    for key in Recipe::KEYS {
        assert!(!key.doc.trim().is_empty() && !key.expected.is_empty(), "{}", key.name);
        assert!(table.get(key.name).is_some(), "{}", key.name);
    }
}
