//! A small version of the quickstart.

use collimate_quickstart::pipeline::{self, QuickstartSize};
use collimate_train::StopFlag;
use collimate_train::progress::Silent;
use rstest::rstest;
use serde_json::Value;

fn accuracy(results: &Value, name: &str, when: &str) -> f64 {
    results[name][when].as_f64().unwrap_or(f64::NAN)
}

#[rstest]
fn the_quickstart_samples_scores_aligns_and_measures(#[values("nca", "dpo", "sft")] objective: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    let out_dir = out.to_str().expect("a name");
    let settings =
        [("objective", objective), ("output_dir", out_dir), ("num_train_epochs", "1"), ("reference_cache", "false")];
    let settings: Vec<_> = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let recipe = pipeline::recipe(&settings).expect("a recipe");
    let size = QuickstartSize { num_problems: 32, num_held_out: 24 };
    let summary = pipeline::run(recipe, size, &mut Silent, &StopFlag::default()).expect("a finished quickstart");
    let text = std::fs::read_to_string(out.join("results.json")).expect("results");
    let results: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(accuracy(&results, "accuracy_greedy", "before"), summary.before.greedy);
    assert_eq!(accuracy(&results, "accuracy_sampled", "after"), summary.after.sampled);
    // The committed base model solves some problems, but not all.
    assert!((0.2..0.95).contains(&summary.before.greedy), "{:?}", summary.before);
    let data = std::fs::read_to_string(out.join("data.jsonl")).expect("sampled data");
    assert!(data.lines().count() > 24, "most problems have usable responses");
    let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).expect("metrics");
    assert_eq!(metrics.lines().count(), data.lines().count().div_ceil(16), "a row a step");
    let report = std::fs::read_to_string(out.join("report.html")).expect("a report");
    assert!(report.contains("accuracy"), "the report shows the accuracies");
    assert!(out.join("model.safetensors").is_file() && out.join("README.md").is_file());
}
