//! Compares renderings and token ids with the reference implementation's.

use collimate_chat::ChatTemplate;
use collimate_data::{Message, Prompt, PromptGroup, Response};
use collimate_oracle::golden_dir;
use collimate_text::{TextTokenizer, TokenizeOptions, tokenize_group};
use rstest::rstest;
use serde::Deserialize;

fn read<T: for<'de> Deserialize<'de>>(file: &str) -> T {
    let path = golden_dir().join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

#[derive(Deserialize)]
struct ChatCase {
    template: String,
    tokenizer: String,
    messages: Vec<Message>,
    add_generation_prompt: bool,
    text: String,
    ids: Vec<u32>,
}

impl ChatCase {
    fn tokenizer(&self) -> TextTokenizer {
        TextTokenizer::from_model_dir(&golden_dir().join(&self.tokenizer)).unwrap()
    }

    fn template(&self, tokenizer: &TextTokenizer) -> ChatTemplate {
        let special = [("bos_token", tokenizer.bos_id()), ("eos_token", Some(tokenizer.eos_id()))];
        let text = |id: u32| tokenizer.token_text(id).unwrap();
        let special = special.into_iter().filter_map(|(name, id)| Some((name.to_owned(), text(id?))));
        ChatTemplate::new(&self.template, special.collect()).unwrap()
    }
}

#[test]
fn chat_renderings_and_ids_equal_the_reference() {
    let cases: Vec<ChatCase> = read("chat.json");
    assert_eq!(cases.len(), 18);
    for (i, case) in cases.iter().enumerate() {
        let tokenizer = case.tokenizer();
        let template = case.template(&tokenizer);
        let text = template.render(&case.messages, case.add_generation_prompt).unwrap();
        assert_eq!(text, case.text, "case {i}");
        assert_eq!(tokenizer.encode(&text, false).unwrap(), case.ids, "case {i}");
    }
}

/// Prompt and response of a conversation together give the whole rendering, except for what follows EOS.
#[test]
fn a_prompt_and_its_response_are_the_conversation() {
    let cases: Vec<ChatCase> = read("chat.json");
    for (i, case) in cases.iter().enumerate().filter(|(_, case)| !case.add_generation_prompt) {
        let tokenizer = case.tokenizer();
        let template = case.template(&tokenizer);
        let tokenizer = tokenizer.with_chat_template(template);
        let (answer, prompt) = case.messages.split_last().unwrap();
        let response = Response { content: answer.content.clone(), ..Response::default() };
        let prompt = Prompt::Messages(prompt.to_vec());
        let group = PromptGroup { index: 0, line: 1, prompt, responses: vec![response], ..PromptGroup::default() };
        let options = TokenizeOptions { min_responses: 1, ..TokenizeOptions::default() };
        let group = tokenize_group(&group, &tokenizer, &options).unwrap();
        let ids = [group.prompt_ids, group.responses[0].ids.clone()].concat();
        let text = tokenizer.decode(&ids, false).unwrap();
        assert_eq!(ids.last(), Some(&tokenizer.eos_id()), "case {i}: {text}");
        assert!(case.ids.starts_with(&ids), "case {i}: {text}");
        assert!(case.ids.len() <= ids.len() + 1, "case {i}: more than a line end is left of {text}");
    }
}

#[derive(Deserialize)]
struct LogpsRow {
    prompt: String,
    response: String,
    prompt_ids: Vec<u32>,
    response_ids: Vec<u32>,
}

#[rstest]
#[case("llama")]
#[case("llama3")]
#[case("mistral")]
#[case("mixtral")]
#[case("qwen2")]
#[case("qwen3")]
#[case("gemma2")]
#[case("phi3")]
#[case("olmo2")]
#[case("smollm3")]
#[case("qwen3_5_text")]
fn prompt_and_response_ids_equal_the_reference(#[case] model: &str) {
    let tokenizer = TextTokenizer::from_model_dir(&golden_dir().join("models").join(model)).unwrap();
    let rows: Vec<LogpsRow> = read(&format!("logps/{model}.json"));
    assert!(!rows.is_empty());
    for (i, row) in rows.iter().enumerate() {
        let response = Response { content: row.response.clone(), ..Response::default() };
        let prompt = Prompt::Text(row.prompt.clone());
        let group = PromptGroup { index: i, line: i + 1, prompt, responses: vec![response], ..PromptGroup::default() };
        let options = TokenizeOptions { min_responses: 1, ..TokenizeOptions::default() };
        let group = tokenize_group(&group, &tokenizer, &options).unwrap();
        assert_eq!(group.prompt_ids, row.prompt_ids, "row {i}");
        assert_eq!(group.responses[0].ids, row.response_ids, "row {i}");
    }
}
