//! `collimate dial`: an adapter at several strengths.

use std::fs;

use rstest::rstest;
use serde_json::Value;

use crate::harness::{Folder, Outcome, collimate, succeed, train};
use crate::resume::groups;
use crate::small_model::model_arg;

/// A run of an adapter with held-out data and a learning rate at which it moves.
const ADAPTER: [&str; 6] = [
    "use_peft=true",
    "max_steps=4",
    "per_device_train_batch_size=2",
    "learning_rate=2e-3",
    "eval_fraction=0.3",
    "torch_dtype=float32",
];

/// Trains into `run`, and returns its last evaluation.
pub(crate) fn trained(folder: &Folder, settings: &[&str]) -> Value {
    succeed(&train(model_arg(), &groups(folder), &folder.arg("run"), &[&ADAPTER, settings].concat()));
    let rows = folder.rows("run/metrics.jsonl");
    rows.into_iter().rfind(|row| row.get("eval_loss").is_some()).expect("an evaluation")
}

fn dial(folder: &Folder, args: &[&str]) -> Outcome {
    let run = folder.arg("run");
    collimate(&[&["dial", &run, "--max-new-tokens", "8"], args].concat())
}

#[rstest]
#[case::lora(&[])]
#[case::rslora(&["use_rslora=true"])]
#[case::on_the_output_layer(&["lora_target_modules=[q_proj, lm_head]"])]
fn strength_0_is_the_reference_and_strength_1_the_trained_model(#[case] settings: &[&str]) {
    let folder = Folder::new();
    let evaluation = trained(&folder, settings);
    let before: Vec<String> = names(&folder, "run");
    let outcome = dial(&folder, &["--strengths", "1,0,0.5,1.5", "--samples", "3"]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let rows = folder.rows("run/dial.jsonl");
    let strengths: Vec<f64> = rows.iter().filter_map(|row| row["strength"].as_f64()).collect();
    assert_eq!(strengths, [1.0, 0.0, 0.5, 1.5]);

    // The figures of the run's last evaluation, to the bit.
    for name in ["loss", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected", "log_ratios/chosen"]
    {
        assert_eq!(rows[0][name], evaluation[format!("eval_{name}").as_str()], "{name}");
    }
    // What the reference is: log-ratios and implicit rewards of zero, to the bit.
    for name in ["rewards/chosen", "rewards/rejected", "rewards/margins", "log_ratios/chosen", "kl", "kl_error"] {
        assert_eq!(rows[1][name].as_f64(), Some(0.0), "{name}");
    }
    let figure = |row: usize, name: &str| rows[row][name].as_f64().expect("a figure");
    assert!(figure(2, "kl") > 0.0 && figure(0, "kl") > figure(2, "kl"), "the divergence grows with the strength");
    assert!(figure(0, "log_ratios/chosen") != figure(3, "log_ratios/chosen"));
    assert!(rows.iter().all(|row| row["samples"].as_array().is_some_and(|samples| samples.len() == 3)));

    let page = folder.read("run/dial.html");
    assert!(page.contains("<svg") && page.contains("strength 0.5") && !page.contains("http:"), "{page}");
    assert!(outcome.out.contains("accuracy") && outcome.out.contains("KL, nats"), "{}", outcome.out);
    // Nothing else of the run's folder is touched, and nothing is replaced.
    let added: Vec<String> = names(&folder, "run").into_iter().filter(|name| !before.contains(name)).collect();
    assert_eq!(added, ["dial.html", "dial.jsonl"]);
    let again = dial(&folder, &["--strengths", "1", "--samples", "0"]);
    assert!(again.code == 2 && again.err.contains("dial.jsonl") && again.err.contains("--force"), "{}", again.err);
    let other = dial(&folder, &["--strengths", "1", "--samples", "0", "--output", &folder.arg("there")]);
    assert_eq!(other.code, 0, "{}", other.err);
    assert_eq!(folder.rows("there/dial.jsonl")[0]["kl"], Value::Null);
}

/// The names in a folder, in order.
fn names(folder: &Folder, dir: &str) -> Vec<String> {
    let entries = fs::read_dir(folder.path(dir)).expect("a folder").flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().display().to_string()).collect();
    names.sort();
    names
}

#[test]
fn a_model_is_merged_at_a_strength() {
    let folder = Folder::new();
    trained(&folder, &[]);
    let merged = |name: &str| fs::read(folder.path(name).join("model.safetensors")).expect("weights");
    let (run, plain) = (folder.arg("run"), folder.arg("plain"));
    succeed(&["merge", "--model", model_arg(), "--adapter", &run, "--output", &plain]);
    for (strength, name) in [("1", "one"), ("0.5", "half"), ("0", "zero")] {
        succeed(&["dial", &run, "--merge-at", strength, "--merged", &folder.arg(name)]);
    }
    assert!(merged("one") == merged("plain"), "strength 1 is what merge writes");
    let base = fs::read(format!("{}/model.safetensors", model_arg())).expect("weights");
    assert!(merged("zero") == base, "strength 0 is the model");
    assert!(merged("half") != base && merged("half") != merged("one"));
    let taken = collimate(&["dial", &run, "--merge-at", "1", "--merged", &folder.arg("one")]);
    assert!(taken.code != 0 && taken.err.contains("one"), "{}: {}", taken.code, taken.err);
    assert!(merged("one") == merged("plain"), "what is there stays");
    let file = folder.write("file", "mine");
    let outcome = dial(&folder, &["--output", &file]);
    assert!(outcome.code == 2 && outcome.err.contains("this is a file"), "{}: {}", outcome.code, outcome.err);
    assert_eq!(folder.read("file"), "mine");
}

#[rstest]
#[case::dora(&["use_dora=true"], "use_dora")]
#[case::copies(&["lora_modules_to_save=[lm_head]"], "lora_modules_to_save")]
#[case::all_weights(&["use_peft=false", "learning_rate=1e-5"], "use_peft")]
#[case::nothing_held_out(&["eval_fraction=0"], "eval_fraction")]
fn what_cannot_be_dialed_is_refused_by_name(#[case] settings: &[&str], #[case] key: &str) {
    let folder = Folder::new();
    let settings = [&ADAPTER[..], settings, &["max_steps=1"]].concat();
    succeed(&train(model_arg(), &groups(&folder), &folder.arg("run"), &settings));
    let outcome = dial(&folder, &[]);
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    assert!(outcome.err.contains(key) && outcome.err.contains("recipe.yaml"), "{}", outcome.err);
    assert!(!folder.path("run/dial.jsonl").exists());
}

#[test]
fn a_folder_without_a_run_and_a_strength_below_zero_are_refused() {
    let folder = Folder::new();
    fs::create_dir(folder.path("run")).expect("a folder");
    let outcome = dial(&folder, &[]);
    assert!(outcome.code == 2 && outcome.err.contains("holds no metrics.jsonl"), "{}", outcome.err);
    let outcome = dial(&folder, &["--strengths=0.5,-1"]);
    assert!(outcome.code == 2 && outcome.err.contains("-1 is no strength"), "{}", outcome.err);
}
