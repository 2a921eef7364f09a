//! Converted files read back as the same groups.

use crate::common::{fixture, load, reader, rewards};
use collimate_data::{ConvertTo, DataSource, Layout, LoadOptions, Prompt, PromptGroup, convert};
use collimate_rewards::PairRule;
use rstest::rstest;
use serde_json::{Value, json};

fn there_and_back(file: &str, to: ConvertTo) -> Vec<PromptGroup> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    let mut groups = DataSource::open(fixture(file), &LoadOptions::default()).unwrap();
    let report = convert(&mut groups, &path, to).unwrap();
    let back: Vec<PromptGroup> =
        DataSource::open(&path, &LoadOptions::default()).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(report.num_rows, back.len());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file was left");
    back
}

#[rstest]
#[case("collimate.jsonl")]
#[case("preference_text.jsonl")]
#[case("preference_scored.jsonl")]
#[case("ranked_set.jsonl")]
#[case("ultrafeedback.jsonl")]
#[case("nectar.jsonl")]
#[case("ranking.jsonl")]
fn our_own_layout_keeps_everything(#[case] file: &str) {
    // A label is kept where the rewards do not say the same.
    let unlabeled = |group| PromptGroup { chosen: None, ..group };
    let expected: Vec<_> = load(file, &LoadOptions::default()).into_iter().map(unlabeled).collect();
    assert_eq!(there_and_back(file, ConvertTo::Collimate), expected);
}

#[test]
fn our_own_layout_keeps_the_tokens_that_were_sampled() {
    let row = r#"{"prompt": "a", "responses": [
        {"content": "b", "reward": 1, "token_ids": [4, 0]}, {"content": "c", "reward": 0, "token_ids": null}]}"#;
    let mut groups = reader(&row.replace('\n', ""), &LoadOptions::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    convert(&mut groups, &path, ConvertTo::Collimate).unwrap();
    let mut back = DataSource::open(&path, &LoadOptions::default()).unwrap();
    let ids: Vec<_> = back.next().unwrap().unwrap().responses.into_iter().map(|response| response.token_ids).collect();
    assert_eq!(ids, [Some(vec![4, 0]), None]);
}

#[rstest]
#[case("collimate.jsonl")]
#[case("ranked_set.jsonl")]
#[case("nectar.jsonl")]
fn the_ranked_set_is_best_first(#[case] file: &str) {
    let before = load(file, &LoadOptions::default());
    for (group, original) in there_and_back(file, ConvertTo::RankedSet).iter().zip(&before) {
        let mut sorted = original.responses.clone();
        sorted.sort_by(|a, b| b.reward.total_cmp(&a.reward));
        let contents = |responses: &[collimate_data::Response]| -> Vec<(String, f64)> {
            responses.iter().map(|r| (r.content.clone(), r.reward)).collect()
        };
        assert_eq!(contents(&group.responses), contents(&sorted));
        assert_eq!(group.prompt, original.prompt);
    }
}

#[test]
fn preferences_keep_prompt_and_scores() {
    let back = there_and_back("nectar.jsonl", ConvertTo::Preference(PairRule::BestVsWorst));
    assert_eq!(rewards(&back[0]), [1.0, 0.0]);
    assert_eq!(
        (back[0].responses[0].content.as_str(), back[0].responses[1].content.as_str()),
        ("Robin, a small bird.", "Bat.")
    );
    assert!(matches!(&back[0].prompt, Prompt::Messages(messages) if messages[0].content == "Name a bird."));
}

#[test]
fn all_pairs_give_a_row_each_and_ties_give_none() {
    let rule = PairRule::AllPairs { margin: 0.0 };
    // Groups of (1, −0.5) and (3, 0, 3): one pair and two.
    assert_eq!(there_and_back("collimate.jsonl", ConvertTo::Preference(rule)).len(), 1 + 2);
}

#[test]
fn groups_without_a_pair_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut groups = DataSource::open(fixture("collimate.jsonl"), &LoadOptions::default()).unwrap();
    let to = ConvertTo::Preference(PairRule::AllPairs { margin: 2.0 });
    let report = convert(&mut groups, folder.path().join("out.jsonl"), to).unwrap();
    assert_eq!((report.num_groups, report.num_rows, report.num_without_pairs), (2, 2, 1));
}

#[test]
fn an_error_leaves_the_old_file_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    std::fs::write(&path, "old").unwrap();
    let sound = std::fs::read_to_string(fixture("collimate.jsonl")).unwrap();
    let mut groups = reader(&(sound + "broken\n"), &LoadOptions::default()).unwrap();
    assert!(convert(&mut groups, &path, ConvertTo::Collimate).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_layout_that_is_not_written_says_which_are() {
    let error = ConvertTo::new(Layout::Nectar, PairRule::BestVsWorst).unwrap_err().to_string();
    assert_eq!(error, "the layout nectar is not written; collimate, preference and ranked_set are");
}

/// Rows of one prompt with this many responses, whose rewards all differ.
fn wide(prompt: Value, num_responses: usize) -> String {
    let responses: Vec<Value> = (0..num_responses).map(|k| json!({"content": format!("{k}"), "reward": k})).collect();
    format!("{OURS}\n{}\n", json!({"prompt": prompt, "responses": responses}))
}

const OURS: &str = r#"{"prompt": "a", "responses": [{"content": "b", "reward": 1}, {"content": "c", "reward": 0}]}"#;

#[test]
fn a_row_of_too_many_pairs_is_named_before_one_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    let to = ConvertTo::Preference(PairRule::AllPairs { margin: 0.0 });
    let mut groups = reader(&wide(json!("4"), 20_000), &LoadOptions::default()).unwrap();
    let error = convert(&mut groups, &path, to).unwrap_err().to_string();
    let expected =
        "data.jsonl:2: its 20000 responses make 199990000 pairs, and at most 4194304 are written for a prompt";
    assert!(error.starts_with(expected), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let few = ConvertTo::Preference(PairRule::AllPairs { margin: 19_990.0 });
    let mut groups = reader(&wide(json!("4"), 20_000), &LoadOptions::default()).unwrap();
    assert_eq!(convert(&mut groups, &path, few).unwrap().num_rows, 10 * 9 / 2 + 10);
}

#[test]
fn a_prompt_that_would_be_repeated_beyond_what_is_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let prompt = json!([{"role": "user", "content": "x".repeat(1 << 20)}]);
    let mut groups = reader(&wide(prompt, 65), &LoadOptions::default()).unwrap();
    let error = convert(&mut groups, folder.path().join("out.jsonl"), ConvertTo::RankedSet).unwrap_err().to_string();
    assert!(error.starts_with("data.jsonl:2: with its prompt before each of 65 responses the row has 681"), "{error}");
}
