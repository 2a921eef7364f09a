//! Responses of several turns, and calls in the forms of ShareGPT and ms-swift.

use collimate_data::{ConvertTo, DataSource, LoadOptions, PromptGroup, convert};
use collimate_rewards::PairRule;
use rstest::rstest;
use serde_json::{Value, json};

use crate::common::{first_error, reader, rewards};

fn one() -> LoadOptions {
    LoadOptions { min_responses: 1, ..LoadOptions::default() }
}

fn group(row: &Value) -> PromptGroup {
    reader(&row.to_string(), &one()).unwrap().next().unwrap().unwrap()
}

fn user() -> Value {
    json!({"role": "user", "content": "What time is it in Oslo?"})
}

fn calls() -> Value {
    json!([{"type": "function", "function": {"name": "clock", "arguments": {"town": "Oslo"}}}])
}

/// A call, its result and the answer.
fn turns() -> [Value; 3] {
    [
        json!({"role": "assistant", "content": "", "tool_calls": calls()}),
        json!({"role": "tool", "content": "14:05"}),
        json!({"role": "assistant", "content": "It is 14:05."}),
    ]
}

fn guess() -> Value {
    json!({"role": "assistant", "content": "It is three."})
}

/// Rows whose first response is all of `turns()`.
#[rstest]
#[case::implicit_prompt(json!({
    "chosen": [user(), turns()[0], turns()[1], turns()[2]], "rejected": [user(), guess()]
}))]
#[case::explicit_prompt(json!({"prompt": [user()], "chosen": turns(), "rejected": [guess()]}))]
#[case::scored_lists(json!({"prompt": [user()], "completions": [turns(), [guess()]], "rewards": [1, 0]}))]
#[case::own_layout(json!({
    "prompt": [user()], "responses": [{"messages": turns(), "reward": 1}, {"message": guess(), "reward": 0}]
}))]
#[case::beside_a_conversation(json!({"messages": [user()], "chosen": turns(), "rejected": guess()}))]
#[case::named_conversations(json!({
    "messages": [user(), turns()[0], turns()[1], turns()[2]], "rejected_messages": [user(), guess()]
}))]
fn a_response_may_be_several_turns(#[case] row: Value) {
    let group = group(&row);
    assert_eq!(serde_json::to_value(&group.prompt).unwrap(), json!([user()]));
    let messages: Vec<Value> = group.responses.iter().map(|response| json!(response.messages())).collect();
    assert_eq!(messages, [json!(turns()), json!([guess()])]);
    assert_eq!(rewards(&group), [1.0, 0.0]);
    assert_eq!(group.responses[0].num_chars(), "14:05".len() + "It is 14:05.".len());
}

#[rstest]
#[case(ConvertTo::Collimate)]
#[case(ConvertTo::RankedSet)]
#[case(ConvertTo::Preference(PairRule::BestVsWorst))]
fn several_turns_are_written_and_read_again(#[case] to: ConvertTo) {
    let row = json!({"prompt": [user()], "chosen": turns(), "rejected": [guess()]});
    let group = group(&row);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    convert(&mut reader(&row.to_string(), &LoadOptions::default()).unwrap(), &path, to).unwrap();
    let back = DataSource::open(&path, &LoadOptions::default()).unwrap().next().unwrap().unwrap();
    assert_eq!((&back.prompt, &back.responses), (&group.prompt, &group.responses));
}

#[rstest]
#[case::ends_with_a_question(
    json!({"prompt": [user()], "chosen": [guess(), user()], "rejected": [guess()]}),
    r#"field "chosen[1].role": expected "assistant", who begins and ends what follows the prompt, found "user""#
)]
#[case::begins_with_another_question(
    json!({"prompt": [user()], "chosen": [user(), guess()], "rejected": [user(), user(), guess()]}),
    r#"field "rejected[1].role": expected "assistant", who begins and ends what follows the prompt, found "user""#
)]
#[case::no_turns(
    json!({"prompt": [user()], "responses": [{"messages": [], "reward": 1}, {"content": "a", "reward": 0}]}),
    r#"field "responses[0].messages[0].role": expected "assistant", found nothing"#
)]
fn the_assistant_begins_and_ends(#[case] row: Value, #[case] problem: &str) {
    assert_eq!(first_error(&row.to_string(), &LoadOptions::default()), format!("data.jsonl:1: {problem}"));
}

/// LLaMA-Factory's and ms-swift's forms of the same conversation.
#[rstest]
#[case::sharegpt(json!({
    "conversations": [
        {"from": "human", "value": "What time is it in Oslo?"},
        {"from": "function_call", "value": "{\"name\": \"clock\", \"arguments\": {\"town\": \"Oslo\"}}"},
        {"from": "observation", "value": "14:05"},
        {"from": "gpt", "value": "It is 14:05."},
    ],
    "tools": "[{\"name\": \"clock\", \"parameters\": {}}]",
}))]
#[case::swift(json!({
    "messages": [
        user(),
        {"role": "tool_call", "content": "{\"name\": \"clock\", \"arguments\": {\"town\": \"Oslo\"}}"},
        {"role": "tool_response", "content": "14:05"},
        {"role": "assistant", "content": "It is 14:05."},
    ],
    "tools": [{"type": "function", "function": {"name": "clock", "parameters": {}}}],
}))]
fn calls_are_read_as_other_trainers_write_them(#[case] row: Value) {
    let group = group(&row);
    let prompt = json!([user(), turns()[0], turns()[1]]);
    assert_eq!(serde_json::to_value(&group.prompt).unwrap(), prompt);
    assert_eq!(group.responses[0].content, "It is 14:05.");
    let tool = json!({"type": "function", "function": {"name": "clock", "parameters": {}}});
    assert_eq!(json!(group.chat.tools), json!([tool]));
}

#[test]
fn an_empty_list_of_tools_asks_for_nothing() {
    for tools in [json!([]), json!("[]"), json!("")] {
        let group = group(&json!({"prompt": "Q", "chosen": "A", "rejected": "B", "tools": tools}));
        assert!(group.chat.tools.is_none_or(|tools| tools.is_empty()));
    }
}

#[test]
fn several_calls_may_stand_in_one_turn_and_be_the_response() {
    let call = r#"{"name": "clock", "arguments": {"town": "Oslo"}}"#;
    let turn = |value: &str| json!({"from": "function_call", "value": value});
    let row = json!({"conversations": [{"from": "human", "value": "Now?"}, turn(&format!("[{call}, {call}]"))]});
    let response = &group(&row).responses[0];
    assert_eq!(response.fields["tool_calls"], json!([calls()[0], calls()[0]]));
    for value in ["look at the clock", r#"{"arguments": {}}"#, "[1]"] {
        let row = json!({"conversations": [{"from": "human", "value": "Now?"}, turn(value)]});
        let problem = first_error(&row.to_string(), &one());
        assert!(
            problem.starts_with("data.jsonl:1: field \"conversations[1].value\": expected a call as JSON"),
            "{problem}"
        );
    }
}
