//! What a row says besides prompt and responses is used or refused, in every layout.

use collimate_data::{ConvertTo, DataSource, Layout, LoadOptions, Prompt, PromptGroup, convert};
use collimate_rewards::PairRule;
use rstest::rstest;
use serde_json::{Value, json};

use crate::common::{first_error, reader};

fn read(row: &Value) -> PromptGroup {
    reader(&row.to_string(), &LoadOptions { min_responses: 1, ..LoadOptions::default() })
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
}

fn error(row: &Value) -> String {
    first_error(&row.to_string(), &LoadOptions::default())
}

/// Tools, a call, its result, reasoning, content in parts and variables of the template.
fn conversation() -> Value {
    let call = json!([{"type": "function", "function": {"name": "clock", "arguments": {"town": "Oslo"}}}]);
    json!({
        "tools": [{"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}],
        "chat_template_kwargs": {"enable_thinking": false},
        "prompt": [
            {"role": "user", "content": [{"type": "text", "text": "What time is it?"}]},
            {"role": "assistant", "content": null, "tool_calls": call},
            {"role": "tool", "name": "clock", "content": "14:05"},
        ],
        "chosen": [{"role": "assistant", "content": "Let me look.", "tool_calls": call, "note": {"a": 1}}],
        "rejected": [{"role": "assistant", "reasoning_content": "why", "content": "No idea."}],
    })
}

#[rstest]
#[case(ConvertTo::Collimate)]
#[case(ConvertTo::RankedSet)]
#[case(ConvertTo::Preference(PairRule::BestVsWorst))]
fn a_conversation_keeps_its_json(#[case] to: ConvertTo) {
    let group = read(&conversation());
    assert_eq!(group.chat.tools.as_deref(), conversation()["tools"].as_array().map(Vec::as_slice));
    assert_eq!(Value::Object(group.chat.kwargs.clone()), conversation()["chat_template_kwargs"]);
    assert_eq!(serde_json::to_value(&group.prompt).unwrap(), conversation()["prompt"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    let mut groups = reader(&conversation().to_string(), &LoadOptions::default()).unwrap();
    convert(&mut groups, &path, to).unwrap();
    let back = DataSource::open(&path, &LoadOptions::default()).unwrap().next().unwrap().unwrap();
    assert_eq!((&back.prompt, &back.responses, &back.chat), (&group.prompt, &group.responses, &group.chat));
    let turns: Vec<Value> = back.responses.iter().map(|response| json!([response.message()])).collect();
    assert_eq!(turns, [conversation()["chosen"].clone(), conversation()["rejected"].clone()]);
}

#[test]
fn tools_may_be_text() {
    let mut row = conversation();
    row["tools"] = json!(conversation()["tools"].to_string());
    assert_eq!(read(&row).chat.tools, read(&conversation()).chat.tools);
    row["tools"] = json!("clock");
    let message = error(&row);
    assert!(
        message.contains("field \"tools\": expected a list of tools, each a JSON schema, found \"clock\""),
        "{message}"
    );
}

#[test]
fn calls_may_stand_beside_the_text_of_a_response() {
    let row = json!({"prompt": [{"role": "user", "content": "a"}], "responses": [
        {"content": "", "tool_calls": [{"id": 1}], "reward": 1}, {"content": "c", "reasoning_content": "r", "reward": 0}]});
    let group = read(&row);
    assert_eq!(Value::Object(group.responses[0].fields.clone()), json!({"tool_calls": [{"id": 1}]}));
    assert_eq!(Value::Object(group.responses[1].fields.clone()), json!({"reasoning_content": "r"}));
}

/// A row of every layout without anything more, in the order of [`Layout::ALL`]'s documentation.
fn plain_rows() -> Vec<Value> {
    let page = include_str!("../../../../docs/data.md");
    let rows = page.split("\n**`").skip(1).filter_map(|part| part.split("```json\n").nth(1)?.lines().next());
    rows.map(|row| serde_json::from_str(row).unwrap()).collect()
}

#[rstest]
#[case("functions", json!([{"name": "f"}]))]
#[case("videos", json!(["a.mp4"]))]
#[case("history", json!([["a", "b"]]))]
#[case("margin", json!(0.5))]
#[case("weight", json!(0.25))]
#[case("tool_calls", json!([{"id": 1}]))]
#[case("reasoning_content", json!("why"))]
#[case("audios", json!(["a.wav"]))]
fn a_column_that_would_change_the_meaning_is_refused_in_every_layout(#[case] name: &str, #[case] value: Value) {
    let rows = plain_rows();
    assert!(rows.len() >= Layout::ALL.len());
    // Alpaca's rows have a history.
    for row in rows.into_iter().filter(|row| name != "history" || row.get("output").is_none()) {
        let mut wishing = row.clone();
        wishing[name] = value.clone();
        let message = error(&wishing);
        assert!(message.starts_with(&format!("data.jsonl:1: field \"{name}\": expected nothing: ")), "{message}");
        // It may be ignored, and asks for nothing if it is empty.
        let options = LoadOptions { ignore_fields: vec![name.to_owned()], min_responses: 1, ..LoadOptions::default() };
        assert!(reader(&wishing.to_string(), &options).unwrap().next().unwrap().is_ok(), "{wishing}");
        wishing[name] = Value::Null;
        assert_eq!(read(&wishing), read(&row));
    }
}

#[test]
fn columns_without_a_meaning_pass() {
    for row in plain_rows() {
        let mut more = row.clone();
        for (name, value) in
            [("id", json!(7)), ("source", json!("web")), ("score_diff", json!(0.5)), ("weight", json!(1))]
        {
            more[name] = value;
        }
        assert_eq!(read(&more), read(&row));
    }
}

#[rstest]
#[case::without_one(json!([{"role": "user", "content": "a"}]), Ok(&["system", "user"]))]
#[case::the_same(json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a"}]), Ok(&["system", "user"]))]
#[case::another(json!([{"role": "system", "content": "Be long."}, {"role": "user", "content": "a"}]), Err("another system prompt"))]
#[case::text(json!("a"), Err("the prompt is text"))]
fn a_system_column_is_the_system_turn(#[case] prompt: Value, #[case] expected: Result<&[&str; 2], &str>) {
    let row = json!({"system": "Be brief.", "prompt": prompt, "responses": [
        {"content": "b", "reward": 1}, {"content": "c", "reward": 0}]});
    match expected {
        Ok(roles) => {
            let Prompt::Messages(messages) = read(&row).prompt else { panic!("a prompt of messages") };
            assert_eq!(messages.iter().map(|message| message.role.as_str()).collect::<Vec<_>>(), roles);
        }
        Err(problem) => assert!(error(&row).contains(problem), "{}", error(&row)),
    }
}

#[rstest]
#[case(json!({"tools": [{"name": "f"}]}), "field \"tools\": expected nothing, since the prompt is text")]
#[case(json!({"chat_template_kwargs": {"a": 1}}), "field \"chat_template_kwargs\": expected nothing, since the prompt is text")]
fn inputs_of_a_template_need_a_conversation(#[case] more: Value, #[case] problem: &str) {
    let mut row = json!({"prompt": "a", "chosen": "b", "rejected": "c"});
    row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    assert!(error(&row).contains(problem), "{}", error(&row));
}

/// TRL's rows: the images of the conversation in a list beside it.
#[test]
fn images_beside_a_conversation_fill_its_parts_and_are_found_beside_the_file() {
    let mut row = conversation();
    row["prompt"] = json!([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}]);
    row["images"] = json!([{"bytes": null, "path": "b.png"}]);
    let reader = std::io::Cursor::new(row.to_string().into_bytes());
    let mut groups = DataSource::from_reader(reader, "folder/rows.jsonl", &LoadOptions::default()).unwrap();
    let group = groups.next().unwrap().unwrap();
    let Prompt::Messages(messages) = &group.prompt else { panic!("messages") };
    assert_eq!(messages[0].fields["content"][1], json!({"type": "image", "image": "folder/b.png"}));
    assert_eq!(messages[0].content, "a");
}

#[rstest]
#[case("prompt", json!([{"role": "user", "content": [{"type": "audio", "audio": "a.wav"}]}]),
       "field \"prompt[0].content[0].type\": expected \"text\" or \"image\", since only these are read, found \"audio\"")]
#[case("chosen", json!([{"role": "assistant", "content": "b", "images": ["a.png"]}]),
       "field \"chosen[0].images\": expected nothing, since images are parts of a content, or a list beside the conversation, found a list of 1")]
#[case("images", json!(["a.png", "https://b/c.png"]),
       "field \"images[1]\": expected a path or a data URI, since no address is fetched, found \"https://b/c.png\"")]
#[case("chat_template_kwargs", json!({"add_generation_prompt": true}),
       "field \"chat_template_kwargs.add_generation_prompt\": expected a variable of the chat template, not an argument of its function")]
fn what_a_template_is_not_given_is_refused(#[case] field: &str, #[case] value: Value, #[case] problem: &str) {
    let mut row = conversation();
    row[field] = value;
    assert!(error(&row).contains(problem), "{}", error(&row));
}
