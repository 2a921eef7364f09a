//! Broken recipes and arguments of `train`.

use insta::assert_snapshot;

use super::shown;
use crate::harness::{Folder, collimate};
use crate::small_model::{adapter_arg, model_arg};

/// Name of the case, and a recipe with one mistake.
const RECIPES: &[(&str, &str)] = &[
    ("unknown key", "learning_rat: 1e-5\n"),
    ("unknown key, nothing near", "zzz: 1\n"),
    ("a key that is not supported", "adafactor: true\n"),
    ("another optimizer", "optim: adafactor\n"),
    ("an optimizer that is misspelled", "optim: adamw_toch\n"),
    ("a loss that is misspelled", "loss_type: nca_pairs\n"),
    ("a data set of a hub", "dataset_mixer: {hub/set: 1.0}\n"),
    ("a share above 1", "data: {d.jsonl: 1.5}\n"),
    ("held out and given", "eval_fraction: 0.1\neval_data: d.jsonl\n"),
    ("no YAML", "objective: {name: nca\n"),
    ("a tab", "objective:\n\tname: nca\n"),
    ("a list", "- learning_rate\n"),
    ("a key twice", "seed: 1\nseed: 2\n"),
    ("a key that is a number", "1: 2\n"),
    ("text for a number", "learning_rate: fast\n"),
    ("a fraction for a count", "lora_r: 2.5\n"),
    ("a negative count", "per_device_train_batch_size: -1\n"),
    ("text for a switch", "use_peft: maybe\n"),
    ("negative learning rate", "learning_rate: -1e-5\n"),
    ("infinite learning rate", "learning_rate: .inf\n"),
    ("empty batch", "per_device_train_batch_size: 0\n"),
    ("warm-up above 1", "warmup_ratio: 1.5\n"),
    ("no epochs", "num_train_epochs: 0\n"),
    ("no steps", "max_steps: 0\n"),
    ("no room for responses", "max_length: 512\nmax_prompt_length: 512\n"),
    ("unknown schedule", "lr_scheduler_type: cosin\n"),
    ("unknown precision", "torch_dtype: int8\n"),
    ("unknown type to compute in", "compute_dtype: float16\n"),
    ("unknown objective", "objective: ncaa\n"),
    ("unknown parameter of the objective", "objective:\n  name: nca\n  bta: 0.1\n"),
    ("parameter out of range", "objective: {name: nca, beta: -1}\n"),
    ("parameter of another type", "objective:\n  name: nca\n  alpha: big\n"),
    ("objective without a name", "objective: {beta: 0.1}\n"),
    ("a parameter that the objective has not", "objective: dpo\ntemperature_alpha: 0.1\n"),
    ("no such data", "data: nowhere.jsonl\n"),
    ("no such reference", "reference: nowhere\n"),
    ("unknown backend", "backend: cudaa\n"),
    ("no such device", "device: 9\n"),
    ("unknown layout", "data_layout: colimate\n"),
    ("unknown source of rewards", "reward_from: votes\n"),
    ("unknown normalization", "normalize: softmax\n"),
    ("unknown target of the adapter", "use_peft: true\nlora_target_modules: [q_prj]\n"),
    ("all targets left out", "use_peft: true\nlora_target_modules: []\n"),
];

#[test]
fn broken_recipes() {
    let folder = Folder::new();
    folder.write(
        "d.jsonl",
        r#"{"prompt": "p", "responses": [{"content": "a", "reward": 1}, {"content": "b", "reward": 0}]}"#,
    );
    let (model, output) = (model_arg(), folder.arg("run"));
    let mut snapshot = String::new();
    for (name, recipe) in RECIPES {
        let data = if recipe.contains("data: {") || recipe.contains("data: no") || recipe.contains("dataset") {
            ""
        } else {
            "data: d.jsonl\n"
        };
        let file = folder.write("recipe.yaml", format!("{recipe}{data}"));
        let args = ["train", &file, "--model", model, "--output", &output, "--quiet"];
        snapshot += &shown(name, &folder, &collimate(&args));
        assert!(!folder.path("run/metrics.jsonl").exists(), "{name} began a run");
    }
    assert_snapshot!(snapshot);
}

#[test]
fn broken_arguments_of_training() {
    let folder = Folder::new();
    let data = folder.write(
        "d.jsonl",
        r#"{"prompt": "p", "responses": [{"content": "a", "reward": 1}, {"content": "b", "reward": 0}]}"#,
    );
    let (model, start) = (model_arg(), format!("adapter={}", adapter_arg()));
    let output = folder.arg("run");
    let mut snapshot = String::new();
    for (name, args) in [
        ("no such recipe", vec!["train", "nowhere.yaml"]),
        ("no data", vec!["train", "--model", model]),
        ("no model", vec!["train", "--data", &data]),
        ("no such model", vec!["train", "--model", "nowhere", "--data", &data]),
        ("no equals sign", vec!["train", "--set", "seed"]),
        ("unknown key", vec!["train", "--set", "sed=1"]),
        ("value out of range", vec!["train", "--set", "adam_beta1=1"]),
        (
            "an adapter and all weights",
            vec![
                "train",
                "--model",
                &model,
                "--data",
                &data,
                "--set",
                &start,
                "--set",
                "use_peft=false",
                "--output",
                &output,
            ],
        ),
    ] {
        let args: Vec<&str> = args.into_iter().chain(["--quiet"]).collect();
        snapshot += &shown(name, &folder, &collimate(&args));
    }
    assert_snapshot!(snapshot);
}
