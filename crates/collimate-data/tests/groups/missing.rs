//! Values that are missing, null, not finite or of a wrong type: passed where nobody reads them, named where they are read, and
//! left out on request.

use collimate_data::{LoadOptions, PromptGroup};
use rstest::rstest;
use serde_json::{Value, json};

use crate::common::{first_error, reader, rewards};

fn contents(group: &PromptGroup) -> Vec<&str> {
    group.responses.iter().map(|response| response.content.as_str()).collect()
}

#[rstest]
#[case(json!({"prompt": "Q", "completion": "A", "label": "good"}), r#"field "label": expected true or false, found "good""#)]
#[case(json!({"prompt": "Q", "completion": "A", "label": null}), r#"field "label": expected true or false, found null"#)]
#[case(json!({"prompt": "Q", "completion": null, "label": true}), r#"field "completion": expected a string or a list of messages, found null"#)]
#[case(json!({"messages": [{"role": "user", "content": "Q"}]}), r#"field "messages": expected the assistant's message, the response at the end, found a message of "user""#)]
#[case(json!({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}], "rejected_response": null}),
       r#"field "rejected_response": expected a string, found null"#)]
#[case(json!({"conversations": [{"from": "robot", "value": "Q"}]}),
       r#"field "conversations[0].from": expected "human", "gpt", "system", "function_call" or "observation", found "robot""#)]
#[case(json!({"conversations": [{"from": "human", "value": 3}]}), r#"field "conversations[0].value": expected a string, found 3"#)]
#[case(json!({"conversations": [{"from": "human", "value": "Q"}], "chosen": {"from": "gpt", "value": "A"}, "rejected": null}),
       r#"field "rejected": expected a string, found null"#)]
#[case(json!({"instruction": "Q", "chosen": "A", "rejected": null}), r#"field "rejected": expected a string, found null"#)]
#[case(json!({"instruction": "Q", "output": ["A"]}), r#"field "output": expected two texts, the better one first, found a list of 1"#)]
#[case(json!({"trajectory": [{"from": "user", "value": "Q"}], "chosen": null, "rejected": "B"}), r#"field "chosen": expected a string, found null"#)]
#[case(json!({"prompt": "Q", "response_0": "A", "response_1": "B", "better_response_id": 2}),
       r#"field "better_response_id": expected 0 or 1, the number of a response, found 2"#)]
#[case(json!({"context": "Q", "response1": "A", "response2": "B", "overall_preference": "left"}),
       r#"field "overall_preference": expected a finite number, found "left""#)]
#[case(json!({"prompt": "Q", "completions": ["A", "B"], "scores": [1]}),
       r#"field "scores": expected 2 numbers, one for each of "completions", found 1"#)]
#[case(json!({"prompt": "Q", "completions": ["A", "B"], "scores": [1, "x"]}), r#"field "scores[1]": expected a finite number, found "x""#)]
#[case(json!({"question": "Q", "response_j": "A", "response_k": 3}), r#"field "response_k": expected a string, found 3"#)]
fn a_broken_row_names_its_field(#[case] row: Value, #[case] expected: &str) {
    assert_eq!(
        first_error(&row.to_string(), &LoadOptions { min_responses: 1, ..LoadOptions::default() }),
        format!("data.jsonl:1: {expected}")
    );
}

/// Case 17: the field that is wrong is blamed, not its sibling.
#[rstest]
#[case(json!({"prompt": "Q", "chosen": " A", "rejected": null}), r#"field "rejected": expected a string, found null"#)]
#[case(json!({"prompt": "Q", "chosen": "A", "rejected": ["B", "C"]}), r#"field "rejected": expected a string, found a list of texts"#)]
#[case(json!({"prompt": "Q", "chosen": 5, "rejected": "B"}), r#"field "chosen": expected a string, found 5"#)]
#[case(json!({"prompt": "Q", "chosen": null, "rejected": [{"role": "assistant", "content": "B"}]}),
       r#"field "chosen": expected a string or a list of messages, found null"#)]
#[case(json!({"prompt": "Q", "A0": "A", "A1": null, "score_A0": 1, "score_A1": 0}), r#"field "A1": expected a string, found null"#)]
fn a_null_among_texts_is_named(#[case] row: Value, #[case] expected: &str) {
    assert_eq!(first_error(&row.to_string(), &LoadOptions::default()), format!("data.jsonl:1: {expected}"));
}

#[rstest]
#[case::by_columns("{\"prompt\": \"Q\", \"chosen\": \"A\", \"rejected\": \"B\", \"margin_of_x\": NaN}")]
#[case::nested(
    "{\"prompt\": \"Q\", \"chosen\": \"A\", \"rejected\": \"B\", \"meta\": {\"a\": [NaN, Infinity, -Infinity]}}"
)]
#[case::scores(
    "{\"prompt\": \"Q\", \"chosen\": \"A\", \"rejected\": \"B\", \"score_chosen\": NaN, \"score_rejected\": NaN}"
)]
fn a_number_that_is_not_finite_passes_where_nobody_reads_it(#[case] row: &str) {
    let group = reader(row, &LoadOptions::default()).unwrap().next().unwrap().unwrap();
    assert_eq!((contents(&group), rewards(&group)), (vec!["A", "B"], vec![1.0, 0.0]));
}

#[rstest]
#[case("NaN", "null; --skip-unusable leaves such responses out")]
#[case("Infinity", "Infinity")]
#[case("-Infinity", "-Infinity")]
fn a_reward_that_is_not_finite_is_named(#[case] number: &str, #[case] found: &str) {
    let row = format!(
        r#"{{"prompt": "a", "responses": [{{"content": "b", "reward": 1}}, {{"content": "c", "reward": {number}}}]}}"#
    );
    assert_eq!(
        first_error(&row, &LoadOptions::default()),
        format!("data.jsonl:1: field \"responses[1].reward\": expected a finite number, found {found}")
    );
}

/// Case 18: a response without a reward is left out on request; the row goes where too little remains.
#[rstest]
#[case::null("null")]
#[case::not_a_number("NaN")]
fn a_missing_reward_is_left_out_on_request(#[case] missing: &str) {
    let response = |k: usize, reward: &str| format!(r#"{{"content": "r{k}", "reward": {reward}}}"#);
    let row = |rewards: &[&str]| {
        let responses: Vec<String> = rewards.iter().enumerate().map(|(k, reward)| response(k, reward)).collect();
        format!(r#"{{"prompt": "Q", "responses": [{}]}}"#, responses.join(", "))
    };
    let text = [row(&["1", missing, "0"]), row(&["1", missing]), row(&["2", "1"])].join("\n");
    let refused = first_error(&text, &LoadOptions::default());
    assert!(refused.ends_with("found null; --skip-unusable leaves such responses out"), "{refused}");
    let mut skipping = reader(&text, &LoadOptions { skip_unusable: true, ..LoadOptions::default() }).unwrap();
    let groups: Vec<PromptGroup> = skipping.by_ref().map(Result::unwrap).collect();
    assert_eq!(groups.iter().map(contents).collect::<Vec<_>>(), [vec!["r0", "r2"], vec!["r0", "r1"]]);
    assert_eq!(rewards(&groups[0]), [1.0, 0.0]);
    let counts = skipping.counts();
    assert_eq!((counts.num_left_out(), counts.num_skipped(), counts.num_errors), (1, 1, 0));
}

#[rstest]
#[case::list(json!({"prompt": "Q", "completions": ["A", "B", "C"], "scores": [1, null, 0]}))]
#[case::set(json!({"prompt": "Q", "A0": "A", "A1": "B", "A2": "C", "score_A0": 1, "score_A1": null, "score_A2": 0}))]
#[case::set_without(json!({"prompt": "Q", "A0": "A", "A1": "B", "A2": "C", "score_A0": 1, "score_A2": 0}))]
#[case::ranks(json!({"prompt": "Q", "answers": [{"answer": "A", "rank": 1}, {"answer": "B", "rank": null}, {"answer": "C", "rank": 3}]}))]
#[case::ultrafeedback(json!({"instruction": "Q", "completions": [{"response": "A", "overall_score": 1},
    {"response": "B", "overall_score": null}, {"response": "C", "overall_score": 0}]}))]
#[case::empty(json!({"prompt": "Q", "completions": ["A", " ", "C"], "scores": [1, 5, 0]}))]
fn a_response_that_cannot_be_used_is_left_out_in_every_layout(#[case] row: Value) {
    let options = LoadOptions { skip_unusable: true, ..LoadOptions::default() };
    let mut reader = reader(&row.to_string(), &options).unwrap();
    let group = reader.next().unwrap().unwrap();
    assert_eq!((contents(&group), rewards(&group)), (vec!["A", "C"], vec![1.0, 0.0]));
    assert_eq!(reader.counts().num_left_out(), 1);
    assert!(!first_error(&row.to_string(), &LoadOptions::default()).is_empty());
}

/// The label keeps naming its response when an earlier one is left out.
#[test]
fn a_label_follows_its_response() {
    let row = json!({"prompt": "Q", "chosen": 2, "responses": [{"content": "a", "reward": null}, {"content": "b", "reward": 1},
        {"content": "c", "reward": 1}]});
    let options = LoadOptions { skip_unusable: true, ..LoadOptions::default() };
    let group = reader(&row.to_string(), &options).unwrap().next().unwrap().unwrap();
    assert_eq!(group.responses[group.chosen.unwrap()].content, "c");
}
