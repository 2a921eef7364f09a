//! Rows in no known layout, read by the fields that the user names.

use collimate_data::{FieldMap, FieldPath, LoadOptions, Message, Prompt, PromptGroup};
use rstest::rstest;
use serde_json::{Value, json};

use crate::common::{first_error, reader, rewards};

fn paths(names: &[&str]) -> Vec<FieldPath> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn scored(prompt: &str, responses: &[&str], rewards: &[&str]) -> LoadOptions {
    let fields = FieldMap {
        prompt: Some(prompt.parse().unwrap()),
        responses: paths(responses),
        rewards: paths(rewards),
        ..FieldMap::default()
    };
    fields.check().unwrap();
    LoadOptions { fields: Some(fields), ..LoadOptions::default() }
}

fn paired(prompt: Option<&str>, chosen: &str, rejected: &[&str]) -> LoadOptions {
    let fields = FieldMap {
        prompt: prompt.map(|prompt| prompt.parse().unwrap()),
        chosen: Some(chosen.parse().unwrap()),
        rejected: paths(rejected),
        ..FieldMap::default()
    };
    fields.check().unwrap();
    LoadOptions { fields: Some(fields), ..LoadOptions::default() }
}

fn read(rows: &[Value], options: &LoadOptions) -> Vec<PromptGroup> {
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    reader(&text, options).unwrap().map(Result::unwrap).collect()
}

fn contents(group: &PromptGroup) -> Vec<&str> {
    group.responses.iter().map(|response| response.content.as_str()).collect()
}

#[rstest]
#[case::several(json!({"q": "Q", "a": "A", "b": "B", "sa": 1, "sb": 0}), scored("q", &["a", "b"], &["sa", "sb"]))]
#[case::a_list(json!({"q": "Q", "out": ["A", "B"], "s": [1, 0]}), scored("q", &["out"], &["s"]))]
#[case::through_lists(
    json!({"in": {"q": "Q"}, "out": [{"t": {"x": "A"}, "s": 1}, {"t": {"x": "B"}, "s": 0}]}),
    scored("in.q", &["out.*.t.x"], &["out.*.s"]))]
#[case::other_brackets(json!({"out": [{"t": "A", "s": 1}, {"t": "B", "s": 0}], "q": ["Q"]}), scored("q[0]", &["out[].t"], &["out[].s"]))]
#[case::positions(
    json!({"q": "Q", "out": [{"t": "A"}, {"t": "B"}], "s": {"0": true, "1": false}}),
    scored("q", &["out.0.t", "out.1.t"], &["s.0", "s.1"]))]
#[case::a_dot_in_a_key(json!({"my.q": "Q", "a.b": ["A", "B"], "s": [1, 0]}), scored("my.q", &["a.b"], &["s"]))]
#[case::a_pair(json!({"q": "Q", "yes": "A", "no": "B"}), paired(Some("q"), "yes", &["no"]))]
fn named_fields_are_a_group(#[case] row: Value, #[case] options: LoadOptions) {
    let groups = read(&[row], &options);
    assert_eq!((contents(&groups[0]), rewards(&groups[0])), (vec!["A", "B"], vec![1.0, 0.0]));
    assert_eq!(groups[0].prompt, Prompt::Text("Q".to_owned()));
}

#[test]
fn a_pair_may_have_several_worse_responses() {
    let groups = read(&[json!({"q": "Q", "yes": "A", "no": ["B", "C"]})], &paired(Some("q"), "yes", &["no"]));
    assert_eq!((contents(&groups[0]), rewards(&groups[0])), (vec!["A", "B", "C"], vec![1.0, 0.0, 0.0]));
}

#[test]
fn whole_conversations_need_no_prompt() {
    let talk = |answer: &str| json!([{"role": "user", "content": "Q"}, {"role": "assistant", "content": answer}]);
    let groups = read(&[json!({"yes": talk("A"), "no": talk("B")})], &paired(None, "yes", &["no"]));
    assert_eq!(contents(&groups[0]), ["A", "B"]);
    assert_eq!(groups[0].prompt, Prompt::Messages(vec![Message::new("user", "Q")]));
}

/// As TRL logs completions: one row each.
#[test]
fn rows_of_one_response_are_grouped_by_prompt() {
    let row = |prompt: &str, text: &str, reward: f64| json!({"step": 1, "prompt": prompt, "completion": text, "accuracy": reward});
    let rows = [row("p", "A", 1.0), row("q", "C", 0.5), row("p", "B", 0.0), row("q", "D", 0.25)];
    let groups = read(&rows, &scored("prompt", &["completion"], &["accuracy"]));
    assert_eq!(groups.iter().map(contents).collect::<Vec<_>>(), [vec!["A", "B"], vec!["C", "D"]]);
    assert_eq!(groups.iter().map(rewards).collect::<Vec<_>>(), [vec![1.0, 0.0], vec![0.5, 0.25]]);
}

#[test]
fn one_missing_reward_of_a_prompt_is_named_with_its_row() {
    let rows = "{\"q\": \"Q\", \"a\": \"A\", \"s\": 1}\n{\"q\": \"Q\", \"a\": \"B\", \"s\": null}\n{\"q\": \"Q\", \"a\": \"C\", \"s\": 0}\n";
    let options = scored("q", &["a"], &["s"]);
    assert_eq!(
        first_error(rows, &options),
        "data.jsonl:1: field \"s (line 2)\": expected a finite number, found null; --skip-unusable leaves such responses out"
    );
    let mut skipping = reader(rows, &LoadOptions { skip_unusable: true, ..options }).unwrap();
    assert_eq!(contents(&skipping.next().unwrap().unwrap()), ["A", "C"]);
    assert_eq!(skipping.counts().num_left_out(), 1);
}

#[rstest]
#[case(json!({"a": "A"}), "field \"q\": expected a value, found nothing")]
#[case(json!({"q": "Q", "out": 3}), "field \"out\": expected a list, found 3")]
#[case(json!({"q": "Q", "out": [{"t": "A"}, {"u": "B"}]}), "field \"out[1].t\": expected a value, found nothing")]
#[case(json!({"q": "Q", "out": [{"t": "A", "s": 1}, {"t": "B", "s": "x"}]}), "field \"out[1].s\": expected a finite number, found \"x\"")]
#[case(json!({"q": "Q", "out": [{"t": "A", "s": 1}, {"t": null, "s": 0}]}), "field \"out[1].t\": expected a string, found null")]
fn a_field_that_is_not_there_is_named(#[case] row: Value, #[case] expected: &str) {
    let error = first_error(&row.to_string(), &scored("q", &["out.*.t"], &["out.*.s"]));
    assert_eq!(error, format!("data.jsonl:1: {expected}"));
}

#[test]
fn every_response_needs_a_reward() {
    let row = json!({"q": "Q", "a": ["A", "B", "C"], "s": [1, 0]}).to_string();
    assert_eq!(
        first_error(&row, &scored("q", &["a"], &["s"])),
        "data.jsonl:1: field \"s\": expected 3 numbers, one for each response, found 2"
    );
    assert_eq!(
        first_error(&row, &scored("q", &["a"], &[])),
        "data.jsonl:1: there are 3 responses and no --reward-field"
    );
}

#[test]
fn the_description_says_which_fields_are_read() {
    let row = json!({"q": "Q", "out": [{"t": "A", "s": 1}, {"t": "B", "s": 0}]}).to_string();
    let groups = reader(&row, &scored("q", &["out.*.t"], &["out.*.s"])).unwrap();
    assert_eq!(
        groups.describe().to_string(),
        "fields prompt q; response out.*.t; reward out.*.s; rewards from the named fields (higher is better), by field"
    );
}

#[rstest]
#[case(FieldMap::default(), "give --response-field, or --chosen-field and --rejected-field")]
#[case(FieldMap { responses: paths(&["a"]), ..FieldMap::default() }, "--response-field needs --prompt-field")]
#[case(FieldMap { chosen: Some("a".parse().unwrap()), ..FieldMap::default() }, "--chosen-field and --rejected-field need each other")]
#[case(
    FieldMap { responses: paths(&["a"]), rejected: paths(&["b"]), ..FieldMap::default() },
    "give either --response-field, or --chosen-field and --rejected-field"
)]
fn fields_that_make_no_group_are_refused(#[case] fields: FieldMap, #[case] expected: &str) {
    assert_eq!(fields.check().unwrap_err(), expected);
}

#[test]
fn an_unknown_layout_says_how_to_name_its_fields() {
    let error = first_error(r#"{"frage": "Q", "antworten": []}"#, &LoadOptions::default());
    assert!(error.contains("no layout is known for a row with frage, antworten; there are\n  collimate: "), "{error}");
    assert!(
        error.contains("collimate data convert data.jsonl --prompt-field a --response-field b --reward-field c"),
        "{error}"
    );
}

#[rstest]
#[case("a..b")]
#[case("")]
#[case(".a")]
fn a_path_has_no_empty_part(#[case] path: &str) {
    assert!(path.parse::<FieldPath>().unwrap_err().contains("is not a path of a field"));
}
