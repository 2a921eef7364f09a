//! Resumed runs.

use std::fs;

use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Folder, succeed, train};
use crate::small_model::model_arg;

/// The metrics of a run without its wall-clock times.
fn timeless(folder: &Folder, run: &str) -> Vec<Value> {
    let mut rows = folder.rows(&format!("{run}/metrics.jsonl"));
    for row in &mut rows {
        row.as_object_mut().expect("a row").shift_remove("step_seconds").expect("a time");
    }
    rows
}

/// Twelve distinct groups of three responses.
fn groups(folder: &Folder) -> String {
    let response = |content: String, reward: f64| json!({"content": content, "reward": reward});
    let group = |i: i32| {
        let responses = [
            response(format!("{}", 7 * i), 1.0),
            response(format!("{} or so", 7 * i), 0.5),
            response(format!("{i}"), 0.0),
        ];
        json!({"prompt": format!("What is 7 times {i}?"), "responses": responses}).to_string() + "\n"
    };
    folder.write("groups.jsonl", (2..14).map(group).collect::<String>())
}

#[rstest]
#[case::all_weights(&[], "model.safetensors")]
#[case::adapter(&["use_peft=true", "lora_dropout=0.1"], "adapter_model.safetensors")]
fn a_resumed_run_ends_with_the_same_bytes(#[case] settings: &[&str], #[case] weights: &str) {
    let folder = Folder::new();
    let (data, model) = (groups(&folder), model_arg());
    let mut all = settings.to_vec();
    all.extend(["max_steps=7", "save_steps=3", "per_device_train_batch_size=2", "learning_rate=1e-3"]);
    let (whole, broken) = (folder.arg("whole"), folder.arg("broken"));
    succeed(&train(model, &data, &whole, &all));

    // The state that a process killed while writing its sixth row leaves behind.
    folder.copy(&folder.path("whole/checkpoint-3"), "broken/checkpoint-3");
    let metrics = folder.read("whole/metrics.jsonl");
    let end = metrics.match_indices('\n').nth(4).expect("five rows").0;
    folder.write("broken/metrics.jsonl", &metrics[..end + 20]);

    let mut resumed = train(model, &data, &broken, &all);
    resumed.push("--resume");
    let outcome = succeed(&resumed);
    assert!(outcome.err.contains("resuming after step 3"), "{}", outcome.err);
    assert_eq!(timeless(&folder, "whole"), timeless(&folder, "broken"));
    let bytes = |run: &str| fs::read(folder.path(run).join(weights)).expect("the trained weights");
    assert!(bytes("whole") == bytes("broken"), "{weights} differs");
}
