//! Compares the ids of responses with those that follow the prompt's when transformers encodes both as one text.
//!
//! `tests/python/text_fixtures.py` has made the values.

use std::collections::BTreeMap;
use std::fs;

use collimate_data::{Message, Prompt, PromptGroup, Response};
use collimate_oracle::golden_dir;
use collimate_text::{TextTokenizer, TokenizeOptions, tokenize_all, tokenize_checked};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

#[derive(Deserialize)]
struct Fixture {
    templates: BTreeMap<String, String>,
    chats: Vec<Vec<Message>>,
    texts: Vec<String>,
    responses: Vec<String>,
    variants: Vec<Variant>,
}

#[derive(Deserialize)]
struct Variant {
    name: String,
    base: String,
    changes: serde_json::Map<String, Value>,
    config: Value,
    texts: Vec<Ids>,
    chats: BTreeMap<String, Vec<Ids>>,
}

#[derive(Deserialize)]
struct Ids {
    prompt_ids: Vec<u32>,
    /// Without the end token, for text prompts.
    response_ids: Vec<Vec<u32>>,
    /// Numbers of responses whose first token would reach into the prompt.
    across: Vec<usize>,
}

fn fixture() -> Fixture {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/continuations.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// A folder with one of the golden tokenizers, changed, and a chat template.
fn folder(base: &str, changes: &serde_json::Map<String, Value>, config: &Value, template: &str) -> TempDir {
    let model = if base == "metaspace" { "mistral" } else { "llama" };
    let file = golden_dir().join("models").join(model).join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    tokenizer.as_object_mut().unwrap().extend(changes.clone());
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    folder
}

impl Variant {
    fn open(&self, template: &str) -> TextTokenizer {
        let folder = folder(&self.base, &self.changes, &self.config, template);
        TextTokenizer::from_model_dir(folder.path()).unwrap()
    }
}

fn group(prompt: Prompt, responses: &[String]) -> PromptGroup {
    let response = |content: &String| Response { content: content.clone(), ..Response::default() };
    PromptGroup {
        index: 0,
        line: 1,
        prompt,
        responses: responses.iter().map(response).collect(),
        ..PromptGroup::default()
    }
}

/// Compares a group with transformers, and checks that nothing is wrong with its texts.
fn compare(tokenizer: &TextTokenizer, prompt: Prompt, responses: &[String], expected: &Ids, what: &str) {
    let is_chat = matches!(prompt, Prompt::Messages(_));
    let options = TokenizeOptions { min_responses: 1, ..TokenizeOptions::default() };
    let (found, checks) = tokenize_checked(&group(prompt, responses), tokenizer, &options).unwrap();
    assert_eq!(found.prompt_ids, expected.prompt_ids, "{what}");
    for (k, (found, expected)) in found.responses.iter().zip(&expected.response_ids).enumerate() {
        // A turn ends with its end token, after which a template may write a line break; a text has none.
        match is_chat {
            true => assert!(expected.starts_with(&found.ids), "{what}, response {k}: {:?}, {expected:?}", found.ids),
            false => {
                assert_eq!(found.ids, [expected.as_slice(), &[tokenizer.eos_id()]].concat(), "{what}, response {k}")
            }
        }
    }
    // Tokenizers made from SentencePiece write a space as ▁, so they take a ▁ for one.
    let has_bytes = tokenizer.token_id("Ġ").is_some();
    let num_lossy = responses.iter().filter(|response| !has_bytes && response.contains('▁')).count();
    assert_eq!(checks.different.count, num_lossy, "{what}: {:?}", checks.different);
    assert_eq!(checks.across.count, expected.across.len(), "{what}: {:?}", checks.across);
    assert_eq!((checks.compared, checks.joint), (responses.len() - checks.across.count, checks.compared), "{what}");
}

#[test]
fn a_response_s_ids_follow_its_prompt_s() {
    let fixture = fixture();
    let (mut compared, mut across) = (0, 0);
    for variant in &fixture.variants {
        let tokenizer = variant.open("");
        for (text, expected) in fixture.texts.iter().zip(&variant.texts) {
            let what = format!("{}, {text:?}", variant.name);
            compare(&tokenizer, Prompt::Text(text.clone()), &fixture.responses, expected, &what);
            compared += expected.response_ids.len();
            across += expected.across.len();
        }
        for (template, chats) in &variant.chats {
            let tokenizer = variant.open(&fixture.templates[template]);
            for (chat, expected) in fixture.chats.iter().zip(chats) {
                let what = format!("{}, {template}", variant.name);
                compare(&tokenizer, Prompt::Messages(chat.clone()), &fixture.responses, expected, &what);
                compared += expected.response_ids.len();
            }
        }
    }
    assert_eq!((compared, across), (8 * (6 + 4 * 2) * 5, 22));
}

/// What three tokenizers that put a space before a text make of "It is 12." after a chat, and of "12" after a text.
#[test]
fn no_space_is_put_before_a_response() {
    let fixture = fixture();
    let cases = [
        ("prepend_normalizer", "inst", ["▁I", "t", "▁is", "▁12", ".", "</s>"].as_slice()),
        ("prepend_normalizer", "zephyr", &["I", "t", "▁is", "▁12", ".", "</s>"]),
        ("metaspace_first", "zephyr", &["I", "t", "▁is", "▁12", ".", "</s>"]),
    ];
    for (name, template, expected) in cases {
        let variant = fixture.variants.iter().find(|variant| variant.name == name).unwrap();
        let tokenizer = variant.open(&fixture.templates[template]);
        let texts = |prompt: Prompt, content: &str| {
            let options = TokenizeOptions { min_responses: 1, ..TokenizeOptions::default() };
            let (groups, _) = tokenize_all(&[group(prompt, &[content.to_owned()])], &tokenizer, &options).unwrap();
            let ids = &groups[0].responses[0].ids;
            ids.iter().map(|id| tokenizer.token_text(*id).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(texts(Prompt::Messages(fixture.chats[0].clone()), "It is 12."), expected, "{name}");
        assert_eq!(texts(Prompt::Text("7 + 5 =".to_owned()), "12"), ["1", "2", "</s>"], "{name}");
    }
}

/// Of a long prompt only the end is encoded again with each response, which changes nothing.
#[test]
fn a_long_prompt_is_continued_like_a_short_one() {
    let story = "Anna has 12 apples, gives 7 away and größere zurück.\nHow many\tare left?  ".repeat(60);
    for variant in &fixture().variants {
        let tokenizer = variant.open("");
        for end in ["7 + 5 =", "Answer:", "Answer: ", "a"] {
            let prompt = format!("{story}{end}");
            let responses = [" 12", "12", "\nso", "pple"].map(str::to_owned);
            let options = TokenizeOptions { min_responses: 1, ..TokenizeOptions::default() };
            let (group, checks) =
                tokenize_checked(&group(Prompt::Text(prompt.clone()), &responses), &tokenizer, &options).unwrap();
            assert_eq!((checks.joint, checks.different.count), (checks.compared, 0), "{}, {end:?}", variant.name);
            for (response, text) in group.responses.iter().zip(&responses) {
                let joint = tokenizer.encode(&format!("{prompt}{text}"), true).unwrap();
                let joins = joint.starts_with(&group.prompt_ids);
                let same =
                    joint.strip_prefix(group.prompt_ids.as_slice()) == Some(&response.ids[..response.ids.len() - 1]);
                assert_eq!(joins, same, "{}, {end:?} and {text:?}", variant.name);
            }
        }
    }
}

/// Sampled tokens become text that the same tokens are made of.
#[test]
fn a_continuation_comes_back() {
    for variant in &fixture().variants {
        let tokenizer = variant.open("");
        for text in [" 12 is it", "12", "\nso"] {
            let options = TokenizeOptions { min_responses: 1, ..TokenizeOptions::default() };
            let group = group(Prompt::Text("7 + 5 =".to_owned()), &[text.to_owned()]);
            let (group, _) = tokenize_checked(&group, &tokenizer, &options).unwrap();
            let decoded = tokenizer.decode_continuation(&group.responses[0].ids, true).unwrap();
            assert_eq!(decoded, text, "{}", variant.name);
        }
    }
}
