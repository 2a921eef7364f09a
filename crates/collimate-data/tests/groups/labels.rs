//! Labels and scores that disagree: the label decides unless told otherwise, and such rows are counted.

use collimate_data::{ConvertTo, DataSource, LabelConflicts, LoadOptions, PromptGroup, ScoreDirection, convert};
use collimate_rewards::PairRule;
use parquet::basic::Compression;
use rstest::rstest;
use serde_json::{Value, json};

use crate::common::{first_error, reader, rewards};
use crate::shred::write_packed;

const PAIRS: &str = r#"{"prompt": "Name a fruit.", "chosen": " Apple.", "rejected": " Iron.", "score_chosen": 2.0, "score_rejected": 7.0}
{"prompt": "Name a metal.", "chosen": " Iron.", "rejected": " Apple.", "score_chosen": 8.0, "score_rejected": 3.0}
"#;

fn options(label_conflicts: LabelConflicts) -> LoadOptions {
    LoadOptions { label_conflicts, ..LoadOptions::default() }
}

fn texts(group: &PromptGroup) -> Vec<&str> {
    group.responses.iter().map(|response| response.content.as_str()).collect()
}

#[rstest]
#[case(LabelConflicts::Label, &[[7.0, 2.0], [8.0, 3.0]], "the label decides; its score and the highest are exchanged")]
#[case(LabelConflicts::Scores, &[[2.0, 7.0], [8.0, 3.0]], "the scores decide")]
#[case(LabelConflicts::Drop, &[[8.0, 3.0]], "left out")]
fn a_pair_whose_scores_contradict_it(
    #[case] conflicts: LabelConflicts,
    #[case] expected: &[[f64; 2]],
    #[case] done: &str,
) {
    let mut reader = reader(PAIRS, &options(conflicts)).unwrap();
    let groups: Vec<PromptGroup> = reader.by_ref().collect::<Result<_, _>>().unwrap();
    assert_eq!(groups.iter().map(rewards).collect::<Vec<_>>(), expected);
    // The texts stay where they are.
    assert_eq!(texts(groups.last().unwrap()), [" Iron.", " Apple."]);
    let line = format!(
        "warning: in 1 of 2 rows the scores contradict the label, the first data.jsonl:1: {done} (label_conflicts: {conflicts})"
    );
    assert_eq!(reader.counts().labels.lines(conflicts), [line]);
    assert_eq!(reader.counts().num_skipped(), usize::from(conflicts == LabelConflicts::Drop));
}

#[rstest]
#[case::equal(0.0, 0.0, &[0.0, 0.0], 0, 1)]
#[case::negative(-5.0, -2.0, &[-2.0, -5.0], 1, 0)]
#[case::agreeing_and_negative(-2.0, -5.0, &[-2.0, -5.0], 0, 0)]
fn ties_and_negative_scores(
    #[case] chosen: f64,
    #[case] rejected: f64,
    #[case] expected: &[f64],
    #[case] num_contradicted: usize,
    #[case] num_tied: usize,
) {
    let row =
        json!({"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": chosen, "score_rejected": rejected});
    let mut reader = reader(&row.to_string(), &LoadOptions::default()).unwrap();
    let group = reader.next().unwrap().unwrap();
    assert_eq!((texts(&group), rewards(&group)), (vec!["b", "c"], expected.to_vec()));
    let labels = &reader.counts().labels;
    assert_eq!((labels.num_contradicted, labels.num_tied), (num_contradicted, num_tied));
    let lines = labels.lines(LabelConflicts::Label).join("\n");
    assert_eq!(lines.contains("the highest score is shared, the first data.jsonl:1"), num_tied == 1, "{lines}");
}

#[test]
fn losses_are_compared_in_their_own_direction() {
    let losses = LoadOptions { direction: Some(ScoreDirection::LowerIsBetter), ..LoadOptions::default() };
    let mut reader = reader(PAIRS, &losses).unwrap();
    let groups: Vec<PromptGroup> = reader.by_ref().collect::<Result<_, _>>().unwrap();
    assert_eq!(groups.iter().map(rewards).collect::<Vec<_>>(), [[-2.0, -7.0], [-3.0, -8.0]]);
    assert_eq!(reader.counts().labels.first_contradicted.as_deref(), Some("data.jsonl:2"));
}

#[rstest]
#[case::index(json!({"chosen": 2}), &["b", "c", "d"], &[5.0, 2.0, 9.0], Some(2))]
#[case::index_by_another_name(json!({"chosen_index": 1}), &["b", "c", "d"], &[5.0, 9.0, 2.0], Some(1))]
#[case::text(json!({"chosen": "d"}), &["b", "c", "d"], &[5.0, 2.0, 9.0], Some(2))]
#[case::agreeing(json!({"chosen": 1}), &["b", "c", "d"], &[5.0, 9.0, 2.0], Some(1))]
#[case::none(json!({"chosen": null}), &["b", "c", "d"], &[5.0, 9.0, 2.0], None)]
fn a_label_of_many_responses(
    #[case] label: Value,
    #[case] expected: &[&str],
    #[case] rewarded: &[f64],
    #[case] chosen: Option<usize>,
) {
    let mut row = json!({"prompt": "a", "responses": [
        {"content": "b", "reward": 5}, {"content": "c", "reward": 9}, {"content": "d", "reward": 2}]});
    row.as_object_mut().unwrap().extend(label.as_object().unwrap().clone());
    let group = reader(&row.to_string(), &LoadOptions::default()).unwrap().next().unwrap().unwrap();
    assert_eq!((texts(&group), rewards(&group), group.chosen), (expected.to_vec(), rewarded.to_vec(), chosen));
}

/// Objectives take the first of equal rewards as the best, so the labeled response comes first.
#[test]
fn a_label_among_equal_scores_comes_first_and_survives_conversion() {
    let row = r#"{"prompt": "a", "A0": "b", "A1": "c", "A2": "d", "score_A0": 7, "score_A1": 7, "score_A2": 1, "chosen": "A1"}"#;
    let group = reader(row, &LoadOptions::default()).unwrap().next().unwrap().unwrap();
    assert_eq!((texts(&group), group.chosen), (vec!["c", "b", "d"], Some(0)));
    let tied = r#"{"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": 4, "score_rejected": 4}"#;
    let folder = tempfile::tempdir().unwrap();
    for to in [ConvertTo::Collimate, ConvertTo::RankedSet, ConvertTo::Preference(PairRule::BestVsWorst)] {
        let path = folder.path().join("out.jsonl");
        convert(&mut reader(tied, &LoadOptions::default()).unwrap(), &path, to).unwrap();
        let back = DataSource::open(&path, &LoadOptions::default()).unwrap().next().unwrap().unwrap();
        assert_eq!((texts(&back), rewards(&back), back.chosen), (vec!["b", "c"], vec![4.0, 4.0], Some(0)), "{to:?}");
    }
}

#[rstest]
#[case(
    r#"{"prompt": "a", "responses": [{"content": "b", "reward": 1}, {"content": "c", "reward": 0}], "chosen": 2}"#,
    "2"
)]
#[case(
    r#"{"prompt": "a", "responses": [{"content": "b", "reward": 1}, {"content": "c", "reward": 0}], "chosen": "x"}"#,
    "\"x\""
)]
fn a_label_of_no_response_is_refused(#[case] row: &str, #[case] found: &str) {
    let expected = format!(
        "data.jsonl:1: field \"chosen\": expected the best response: its index from 0 to 1, or its text, found {found}"
    );
    assert_eq!(first_error(row, &LoadOptions::default()), expected);
}

#[rstest]
#[case::other_columns(json!({"prompt": "a", "chosen": "b", "rejected": "c", "chosen_score": 1, "rejected_score": 3}), "chosen_score, rejected_score")]
#[case::in_messages(
    json!({"prompt": "a", "chosen": [{"role": "assistant", "content": "b", "score": 1}], "rejected": [{"role": "assistant", "content": "c", "score": 3}]}),
    "chosen[].score, rejected[].score"
)]
fn scores_under_other_names_are_seen(#[case] row: Value, #[case] source: &str) {
    let mut reader = reader(&row.to_string(), &LoadOptions::default()).unwrap();
    assert_eq!(reader.describe().reward_source, source);
    assert_eq!(rewards(&reader.next().unwrap().unwrap()), [3.0, 1.0]);
    assert_eq!(reader.counts().labels.num_contradicted, 1);
}

#[test]
fn each_file_is_counted_parquet_too() {
    let folder = tempfile::tempdir().unwrap();
    let (lines, parquet) = (folder.path().join("a.jsonl"), folder.path().join("b.parquet"));
    std::fs::write(&lines, PAIRS).unwrap();
    let rows: Vec<Value> = PAIRS.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let schema = "message schema { required binary prompt (UTF8); required binary chosen (UTF8); \
                  required binary rejected (UTF8); required double score_chosen; required double score_rejected; }";
    write_packed(&parquet, schema, &[rows[1].clone(), rows[0].clone()], Compression::SNAPPY);
    for (path, line, expected) in [(&lines, 1, [[7.0, 2.0], [8.0, 3.0]]), (&parquet, 2, [[8.0, 3.0], [7.0, 2.0]])] {
        let mut reader = DataSource::open(path, &LoadOptions::default()).unwrap();
        let all: Vec<_> = reader.by_ref().map(|group| rewards(&group.unwrap())).collect();
        assert_eq!(all, expected);
        let first = reader.counts().labels.first_contradicted.clone();
        assert_eq!(first, Some(format!("{}:{line}", path.display())));
    }
}
