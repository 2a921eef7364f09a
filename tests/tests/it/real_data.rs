//! What reads published data beside the repository; `cargo xtask test` knows these tests by `real_data` in their names.

use std::path::Path;

use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::succeed;

/// A file of real scored responses, beside the repository.
pub(crate) fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    path.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", path.display())).display().to_string()
}

/// Groups, responses of each, groups with all rewards equal.
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
