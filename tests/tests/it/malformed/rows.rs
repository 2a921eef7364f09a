//! Broken files and rows of data.

use insta::assert_snapshot;

use super::shown;
use crate::harness::{Folder, collimate};
use crate::small_model::{model, model_arg};

const OURS: &str = r#"{"prompt": "p", "responses": [{"content": "a", "reward": 1}, {"content": "b", "reward": 0}]}"#;

/// Name of a case, and the file's text.
type Case = (&'static str, String);

fn text(name: &'static str, content: &str) -> Case {
    (name, content.to_owned())
}

/// Every case, and the file's bytes.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let texts = whole_files().into_iter().chain(groups()).chain(other_layouts());
    let mut files: Vec<_> = texts.map(|(name, content)| (name, content.into_bytes())).collect();
    files.extend([
        ("no UTF-8", b"{\"prompt\": \"\xff\xfe\"}\n".to_vec()),
        ("gzip", b"\x1f\x8b\x08\x00rest\n".to_vec()),
        ("parquet", b"PAR1rest\n".to_vec()),
    ]);
    files
}

fn whole_files() -> Vec<Case> {
    vec![
        text("empty file", ""),
        text("cut off", r#"{"prompt": "p", "responses": [{"content": "a""#),
        text("a JSON list", r#"[{"prompt": "p", "responses": []}]"#),
        text("pretty-printed JSON", "{\n  \"prompt\": \"p\"\n}\n"),
        text("a number", "5\n"),
        text("unknown fields", r#"{"question": "q", "answer": "a"}"#),
        text("a field twice", r#"{"prompt": "p", "prompt": "q", "responses": []}"#),
    ]
}

/// Rows of groups, the layout of this project.
fn groups() -> Vec<Case> {
    vec![
        text(
            "prompt is a number",
            r#"{"prompt": 1, "responses": [{"content": "a", "reward": 1}, {"content": "b", "reward": 0}]}"#,
        ),
        text("prompt is missing", r#"{"responses": [{"content": "a", "reward": 1}, {"content": "b", "reward": 0}]}"#),
        text(
            "prompt is empty",
            r#"{"prompt": " ", "responses": [{"content": "a", "reward": 1}, {"content": "b", "reward": 0}]}"#,
        ),
        text("responses is a table", r#"{"prompt": "p", "responses": {"content": "a", "reward": 1}}"#),
        text("no responses", r#"{"prompt": "p", "responses": []}"#),
        text("one response", r#"{"prompt": "p", "responses": [{"content": "a", "reward": 1}]}"#),
        text(
            "response is empty",
            r#"{"prompt": "p", "responses": [{"content": "", "reward": 1}, {"content": "b", "reward": 0}]}"#,
        ),
        text(
            "response is a number",
            r#"{"prompt": "p", "responses": [{"content": 7, "reward": 1}, {"content": "b", "reward": 0}]}"#,
        ),
        text("reward is missing", r#"{"prompt": "p", "responses": [{"content": "a", "reward": 1}, {"content": "b"}]}"#),
        text(
            "reward is text",
            r#"{"prompt": "p", "responses": [{"content": "a", "reward": "n/a"}, {"content": "b", "reward": 0}]}"#,
        ),
        text(
            "reward is null",
            r#"{"prompt": "p", "responses": [{"content": "a", "reward": null}, {"content": "b", "reward": 0}]}"#,
        ),
        text(
            "reward is NaN",
            r#"{"prompt": "p", "responses": [{"content": "a", "reward": NaN}, {"content": "b", "reward": 0}]}"#,
        ),
        text(
            "reward is infinite",
            r#"{"prompt": "p", "responses": [{"content": "a", "reward": 1e999}, {"content": "b", "reward": 0}]}"#,
        ),
        text(
            "message without role",
            r#"{"prompt": [{"content": "p"}], "responses": [{"content": "a", "reward": 1}, {"content": "b", "reward": 0}]}"#,
        ),
        text(
            "no messages",
            r#"{"prompt": [], "responses": [{"content": "a", "reward": 1}, {"content": "b", "reward": 0}]}"#,
        ),
    ]
}

fn other_layouts() -> Vec<Case> {
    vec![
        text(
            "rejected is missing",
            "{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"b\"}\n{\"prompt\": \"p\", \"chosen\": \"a\"}\n",
        ),
        text(
            "text against messages",
            r#"{"prompt": "p", "chosen": "a", "rejected": [{"role": "assistant", "content": "b"}]}"#,
        ),
        text(
            "two prompts in one pair",
            r#"{"chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}], "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}]}"#,
        ),
        text("no score of A1", r#"{"prompt": "p", "A0": "a", "score_A0": 1, "A1": "b"}"#),
        text("score of A1 is text", r#"{"prompt": "p", "A0": "a", "score_A0": 1, "A1": "b", "score_A1": "low"}"#),
        text("no completions", r#"{"instruction": "p", "completions": []}"#),
        text(
            "completions without a rating",
            r#"{"instruction": "p", "completions": [{"response": "a"}, {"response": "b"}]}"#,
        ),
        text(
            "rank is text",
            r#"{"prompt": "p", "answers": [{"answer": "a", "rank": "first"}, {"answer": "b", "rank": 2}]}"#,
        ),
        text("rank is missing", r#"{"prompt": "p", "answers": [{"answer": "a", "rank": 1}, {"answer": "b"}]}"#),
        text(
            "another layout in the second row",
            &format!("{OURS}\n{{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"b\"}}\n"),
        ),
    ]
}

#[test]
fn broken_rows() {
    let folder = Folder::new();
    let mut snapshot = String::new();
    for (name, content) in files() {
        let file = folder.write("d.jsonl", content);
        snapshot += &shown(name, &folder, &collimate(&["data", "check", &file]));
    }
    for (name, args) in [
        ("no such file", vec!["data", "check", "nowhere.jsonl"]),
        ("no such layout", vec!["data", "check", "d.jsonl", "--layout", "colimate"]),
        ("no such source of rewards", vec!["data", "check", "d.jsonl", "--reward-from", "votes"]),
        ("no such layout to write", vec!["data", "convert", "d.jsonl", "--to", "nectar", "-o", "o.jsonl"]),
    ] {
        snapshot += &shown(name, &folder, &collimate(&args));
    }
    assert_snapshot!(snapshot);
}

#[test]
fn rows_that_only_the_tokenizer_refuses() {
    let folder = Folder::new();
    let file = folder.write("d.jsonl", [OURS, "\n"].concat());
    let messages = folder.write(
        "messages.jsonl",
        r#"{"prompt": [{"role": "user", "content": "p"}], "responses": [{"content": "a", "reward": 1}, {"content": "b", "reward": 0}]}"#,
    );
    let (whole, plain) = (model_arg(), folder.arg("plain"));
    for name in ["tokenizer.json", "config.json"] {
        folder.write(&format!("plain/{name}"), std::fs::read(model().join(name)).expect("a file"));
    }
    folder.write("plain/tokenizer_config.json", r#"{"eos_token": "<|im_end|>"}"#);
    let mut snapshot = String::new();
    for (name, args) in [
        ("no room for a response", vec!["data", "check", &file, "--model", whole, "--max-length", "1"]),
        ("no chat template for messages", vec!["data", "check", &messages, "--model", &plain]),
        ("a zero length", vec!["data", "check", &file, "--model", whole, "--max-length", "0"]),
    ] {
        snapshot += &shown(name, &folder, &collimate(&args));
    }
    assert_snapshot!(snapshot);
}
