//! Rows and templates with very long texts: memory is bounded, and the row is named.

use collimate_chat::ChatTemplate;
use collimate_data::{Message, Prompt, PromptGroup, Response};
use collimate_hostile::{peak_since, reset_peak};
use collimate_text::{TextError, TextTokenizer, TokenizeOptions, tokenize_group};

use crate::harness::{Folder, collimate};
use crate::small_model::{model, model_arg};

fn group(prompt: Prompt, contents: [String; 2]) -> PromptGroup {
    let response = |content| Response { content, ..Response::default() };
    let responses = contents.into_iter().map(response).collect();
    PromptGroup { index: 0, line: 3, prompt, responses, ..PromptGroup::default() }
}

/// Message of the error, or the number of tokens; and the most memory meanwhile.
fn tokenized(group: &PromptGroup, tokenizer: &TextTokenizer) -> (Result<usize, TextError>, usize) {
    reset_peak();
    let held = peak_since(0);
    let tokens = tokenize_group(group, tokenizer, &TokenizeOptions::default()).map(|group| group.num_tokens());
    (tokens, peak_since(held))
}

/// 260 bytes of memory a byte of text would be a gigabyte.
#[test]
fn a_long_text_is_tokenized_in_bounded_memory() {
    let tokenizer = TextTokenizer::from_model_dir(model()).expect("a tokenizer");
    let text = "4 * ".repeat(1_000_000);
    let group = group(Prompt::Text("4".to_owned()), [text.clone(), "b".to_owned()]);
    let (tokens, peak) = tokenized(&group, &tokenizer);
    let tokens = tokens.expect("tokens");
    assert!(tokens > 2_000_000, "{tokens} tokens");
    assert!(peak < 256 << 20, "{peak} bytes for {} of text", text.len());
}

#[test]
fn a_text_beyond_the_limit_is_refused_by_row_and_field_before_memory_is_taken() {
    let tokenizer = TextTokenizer::from_model_dir(model()).expect("a tokenizer");
    let long = group(Prompt::Text("4".to_owned()), ["b".to_owned(), "4 * ".repeat(15_000_000)]);
    let (error, peak) = tokenized(&long, &tokenizer);
    let error = error.expect_err("too long a text").to_string();
    let expected = "line 3: field \"responses[1].content\": 60000000 bytes of text or ids, and at most 4194304 are \
                    tokenized; from 1 to 16 GiB of memory_budget the limit grows with it";
    assert_eq!(error, expected);
    assert!(peak < 1 << 20, "{peak} bytes");

    let folder = Folder::new();
    let row = r#"{"prompt": "4", "responses": [{"content": "TEXT", "reward": 1}, {"content": "b", "reward": 0}]}"#;
    let short = row.replace("TEXT", "4");
    let data = folder.write("row.jsonl", format!("{short}\n{}\n", row.replace("TEXT", &"4 * ".repeat(2_000_000))));
    let recipe = folder.write("little.yaml", "memory_budget: 512MiB\nmax_length: null\n");
    let check = ["data", "check", &data, "--model", model_arg(), "--recipe", &recipe];
    let outcome = collimate(&check);
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    assert!(outcome.err.contains("row.jsonl:2: field \"responses[0].content\": 8000000 bytes"), "{}", outcome.err);
    let outcome = collimate(&[&check[..], &["--skip-unusable"]].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert!(outcome.out.contains("skipped: 1 × too long a text"), "{}", outcome.out);
    let prompts = folder.write("prompts.jsonl", format!("{{\"prompt\": \"{}\"}}\n", "4 * ".repeat(2_000_000)));
    let args = ["sample", "--model", model_arg(), "--data", &prompts, "--output", &folder.arg("out.jsonl")];
    let outcome = collimate(&[&args[..], &["--recipe", &recipe]].concat());
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    assert!(outcome.err.contains("prompts.jsonl:1: ") && outcome.err.contains("8000000 bytes"), "{}", outcome.err);
}

/// Nothing of such a text is held but the text and what stays of it.
#[test]
fn a_text_beyond_the_limit_that_is_cut_is_tokenized_in_bounded_memory() {
    let tokenizer = TextTokenizer::from_model_dir(model()).expect("a tokenizer");
    let text = "4 * ".repeat(4_000_000);
    let long = group(Prompt::Text(text.clone()), ["b".to_owned(), text.clone()]);
    let options = TokenizeOptions { max_length: Some(64), max_prompt_length: Some(32), ..TokenizeOptions::default() };
    reset_peak();
    let held = peak_since(0);
    let tokenized = tokenize_group(&long, &tokenizer, &options).expect("tokens");
    let peak = peak_since(held);
    let sizes = [tokenized.prompt_ids.len(), tokenized.responses[0].ids.len(), tokenized.responses[1].ids.len()];
    assert_eq!(sizes, [32, 2, 32]);
    assert!(tokenized.num_prompt_cut > 8_000_000 - 33 && tokenized.responses[1].num_cut > 8_000_000 - 33);
    assert!(peak < 2 * text.len(), "{peak} bytes for {} of text", text.len());

    let folder = Folder::new();
    let row = r#"{"prompt": "4", "responses": [{"content": "TEXT", "reward": 1}, {"content": "b", "reward": 0}]}"#;
    let data = folder.write("row.jsonl", row.replace("TEXT", &text[..8_000_000]) + "\n");
    let recipe = folder.write("cut.yaml", "memory_budget: 512MiB\nmax_length: 64\n");
    let outcome = collimate(&["data", "check", &data, "--model", model_arg(), "--recipe", &recipe]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert!(outcome.out.contains("cut: 0 prompts (by 0 tokens), 1 response (by "), "{}", outcome.out);
}

/// With more memory, longer texts are tokenized, and their memory stays far below what there is.
#[test]
fn memory_lets_longer_texts_and_conversations_through() {
    let memory: u64 = 4 << 30;
    let tokenizer = || TextTokenizer::from_model_dir(model()).expect("a tokenizer").with_memory(memory);
    let text = "4 * ".repeat(2_000_000);
    let source = "{% for m in messages %}{{ m.content }}{% endfor %}";
    let template = ChatTemplate::new(source, std::collections::BTreeMap::new()).expect("a template");
    for (prompt, tokenizer) in [
        (Prompt::Text("4".to_owned()), tokenizer()),
        (Prompt::Messages(vec![Message::new("user", &text)]), tokenizer().with_chat_template(template)),
    ] {
        let (tokens, peak) = tokenized(&group(prompt, [text.clone(), "b".to_owned()]), &tokenizer);
        assert!(tokens.expect("tokens") > 4_000_000);
        assert!((peak as u64) < memory / 4, "{peak} bytes for {} of text", text.len());
    }
}

/// A template of a kilobyte once wrote 60 MB, which took 16 GB to tokenize.
#[test]
fn a_template_that_writes_much_is_refused_by_row_in_bounded_memory() {
    let prompt = || Prompt::Messages(vec![Message::new("user", "a")]);
    let long = group(prompt(), ["4".to_owned(), "5".to_owned()]);
    for (count, expected) in [(60_000, "the text grows beyond 16777216 bytes"), (8_000, "field \"prompt\": 8000")] {
        let words = "4 * ".repeat(250);
        let source =
            format!("{{% for i in range({count}) %}}{{{{ '{words}' }}}}{{% endfor %}}{{{{ messages[0].content }}}}");
        let template = ChatTemplate::new(&source, std::collections::BTreeMap::new()).expect("a template");
        let tokenizer = TextTokenizer::from_model_dir(model()).expect("a tokenizer").with_chat_template(template);
        let (error, peak) = tokenized(&long, &tokenizer);
        let error = error.expect_err("too long a text").to_string();
        assert!(error.starts_with("line 3: ") && error.contains(expected), "{error}");
        assert!(peak < 128 << 20, "{peak} bytes");
    }
}
