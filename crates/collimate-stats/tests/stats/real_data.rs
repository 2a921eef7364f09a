//! Tests on published data in the folder beside the repository; the expected numbers are from that folder's README.

use std::collections::BTreeMap;
use std::path::PathBuf;

use collimate_data::{DataSource, LoadOptions};
use collimate_stats::{DataStats, StatsSummary};

fn shared(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name)
}

fn stats(name: &str, options: &LoadOptions) -> StatsSummary {
    let mut stats = DataStats::new(Some(1.0));
    for group in DataSource::open(shared(name), options).unwrap() {
        stats.add(&group.unwrap());
    }
    stats.summary()
}

#[test]
fn model_solutions_with_their_ties() {
    let summary = stats("gsm8k_rewards.jsonl", &LoadOptions::default());
    assert_eq!(summary.groups_by_num_responses, BTreeMap::from([(4, 1319)]));
    // All responses are wrong in 432 rows and right in 156.
    assert_eq!(summary.num_all_tied, 432 + 156);
    let groups = DataSource::open(shared("gsm8k_rewards.jsonl"), &LoadOptions::default()).unwrap();
    let all_wrong =
        groups.filter(|group| group.as_ref().unwrap().responses.iter().all(|response| response.reward == 0.0)).count();
    assert_eq!(all_wrong, 432);
}

#[test]
fn dialogues_with_six_responses_and_aspects() {
    let summary = stats("topical_chat_rewards.jsonl", &LoadOptions::default());
    assert_eq!((summary.num_groups, summary.num_responses), (60, 60 * 6));
    let reward_from = Some("aspects".parse().unwrap());
    let by_aspects = stats("topical_chat_rewards.jsonl", &LoadOptions { reward_from, ..LoadOptions::default() });
    assert_ne!(by_aspects.reward_mean, summary.reward_mean);
}

#[test]
fn rows_of_another_kind_are_refused_with_their_fields() {
    let error =
        DataSource::open(shared("gsm8k_model_solutions.jsonl"), &LoadOptions::default()).unwrap_err().to_string();
    assert!(error.contains("no layout is known for a row with question, ground_truth, 6b_finetuning"), "{error}");
}
