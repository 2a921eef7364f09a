//! Conversations with tools, calls, reasoning, parts and variables are rendered as transformers renders them, or refused.
//!
//! `tests/python/chat_inputs.py` makes the file of templates, conversations and expected texts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use collimate_chat::{ChatError, ChatTemplate, TemplateSources};
use collimate_data::{ChatInputs, Message};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
struct Expected {
    templates: BTreeMap<String, Value>,
    chats: BTreeMap<String, Chat>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Chat {
    messages: Vec<Message>,
    tools: Option<Vec<Value>>,
    #[serde(default)]
    kwargs: Map<String, Value>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    chat: String,
    add_generation_prompt: bool,
    text: Option<String>,
}

/// What transformers leaves out in silence.
const REFUSED: [(&str, &str); 9] = [
    ("thinking", "call"),
    ("thinking", "overridden"),
    ("thinking", "tools"),
    ("thinking", "two tools"),
    ("two", "no content"),
    ("two", "null content"),
    ("two", "reasoning"),
    ("two", "reasoning_content"),
    ("two", "thinking"),
];

#[test]
fn conversations_are_rendered_as_transformers_does_or_refused() {
    let text = include_str!("fixtures/chat_inputs.json");
    let expected: Expected = serde_json::from_str(text).unwrap();
    assert_eq!(expected.cases.len(), expected.templates.len() * expected.chats.len() * 2);
    let mut refused = Vec::new();
    for case in &expected.cases {
        let sources = TemplateSources::from_json(&expected.templates[&case.template]).unwrap().unwrap();
        let tokens = BTreeMap::from([("eos_token".to_owned(), "</s>".to_owned())]);
        let template = ChatTemplate::from_sources(&sources, tokens).unwrap();
        let Chat { messages, tools, kwargs } = &expected.chats[&case.chat];
        let inputs = ChatInputs { tools: tools.clone(), kwargs: kwargs.clone() };
        let found = template.render_with(messages, &inputs, case.add_generation_prompt);
        let name = format!("{}, {}", case.template, case.chat);
        match (found, &case.text) {
            (Ok(found), Some(text)) => assert_eq!(found, *text, "{name}"),
            (Err(error), Some(_)) => {
                assert!(matches!(error, ChatError::LeftOut { .. }), "{name}: {error}");
                assert!(error.to_string().contains("it leaves out"), "{name}: {error}");
                refused.push((case.template.as_str(), case.chat.as_str()));
            }
            (Ok(found), None) => panic!("{name}: transformers fails, found {found}"),
            (Err(_), None) => {}
        }
    }
    refused.sort_unstable();
    refused.dedup();
    assert_eq!(refused, REFUSED);
}
