//! Tests on published data beside the checkout; `cargo xtask test` skips them by this module's name if it is missing.

use std::path::Path;

use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Folder, succeed};
use crate::small_model::model_arg;

/// A file of published scored responses.
pub(crate) fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    path.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", path.display())).display().to_string()
}

/// Numbers of groups, of responses per group, and of groups with equal rewards.
#[rstest]
#[case("gsm8k_rewards.jsonl", 1319, 4, Some(432 + 156))]
#[case("topical_chat_rewards.jsonl", 60, 6, None)]
fn files_are_checked_and_described(
    #[case] name: &str,
    #[case] num_groups: usize,
    #[case] num_responses: usize,
    #[case] num_all_tied: Option<usize>,
) {
    let data = file(name);
    let check = succeed(&["data", "check", &data]).out;
    assert!(check.contains(&format!("{num_groups} rows, {num_groups} groups, 0 errors")), "{check}");
    let stats: Value = serde_json::from_str(&succeed(&["data", "stats", &data, "--json"]).out).expect("JSON");
    assert_eq!(stats["num_groups"], num_groups);
    assert_eq!(stats["groups_by_num_responses"], json!({num_responses.to_string(): num_groups}));
    if let Some(tied) = num_all_tied {
        assert_eq!(stats["num_all_tied"], tied);
    }
    let entropy = stats["mean_entropy"].as_f64().expect("an entropy");
    assert!(entropy > 0.0 && entropy < (num_responses as f64).ln(), "{entropy}");
}

/// One step of the recipe for these rewards, with the small model.
#[test]
fn the_recipe_for_gsm8k_leaves_out_questions_that_say_nothing() {
    let (folder, data) = (Folder::new(), file("gsm8k_rewards.jsonl"));
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/gsm8k-nca.yaml").display().to_string();
    let (run, settings) = (folder.arg("run"), ["max_steps=1", "eval_fraction=0", "gradient_accumulation_steps=1"]);
    let mut args = vec!["train", &recipe, "--model", model_arg(), "--data", &data, "--output", &run];
    args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    let err = succeed(&args).err;
    let (tied, left) = (432 + 156, 1319 - 432 - 156);
    assert!(err.contains(&format!("{tied} groups dropped: tied")), "{err}");
    assert!(err.contains(&format!("data: {left} prompts, 2,{} responses", 4 * left - 2000)), "{err}");
    let loss = folder.rows("run/metrics.jsonl").iter().find_map(|row| row["loss"].as_f64()).expect("a loss");
    assert!((loss - 2.0 * std::f64::consts::LN_2).abs() < 1e-3, "{loss}");
}
