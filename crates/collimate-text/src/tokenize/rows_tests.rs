//! Rows with calls, reasoning, tools and parts as tokens: the texts are those of transformers' `apply_chat_template`.

use collimate_data::{DataSource, LoadOptions, PromptGroup};
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::TokenizerChanges;
use crate::tokenizer::tests::character_dir;

const TEMPLATE: &str = "{%- if tools %}<|im_start|>tools\n{{ tools | tojson }}<|im_end|>\n{% endif %}
{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content if m.content else '' }}
{%- for c in (m.tool_calls or []) %}<call>{{ (c.function or c) | tojson }}</call>{% endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

const TOOLS: &str = r#"{"tools": [{"type": "function", "function": {"name": "clock", "description": "time of a town", "parameters": {"type": "object", "properties": {"town": {"type": "string"}}}}}], "prompt": [{"role": "user", "content": "What time is it in Oslo?"}, {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "clock", "arguments": {"town": "Oslo"}}}]}, {"role": "tool", "name": "clock", "content": "14:05"}], "chosen": [{"role": "assistant", "content": "It is 14:05."}], "rejected": [{"role": "assistant", "content": "No idea."}]}"#;
const CALL: &str = r#"{"prompt": [{"role": "user", "content": "What time is it in Oslo?"}], "chosen": [{"role": "assistant", "content": "Let me look.", "tool_calls": [{"type": "function", "function": {"name": "clock", "arguments": {"town": "Oslo"}}}]}], "rejected": [{"role": "assistant", "content": "Let me look.", "tool_calls": [{"type": "function", "function": {"name": "clock", "arguments": {"town": "Rome"}}}]}]}"#;
const NULL: &str = r#"{"prompt": [{"role": "user", "content": "What time is it in Oslo?"}, {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": {"name": "clock", "arguments": {"town": "Oslo"}}}]}, {"role": "tool", "content": "14:05"}], "chosen": [{"role": "assistant", "content": "It is 14:05."}], "rejected": [{"role": "assistant", "content": "No idea."}]}"#;
const REASONING: &str = r#"{"prompt": [{"role": "user", "content": "2+2?"}], "chosen": [{"role": "assistant", "reasoning_content": "two and two", "content": "4"}], "rejected": [{"role": "assistant", "reasoning_content": "guess", "content": "4"}]}"#;
const PARTS: &str = r#"{"prompt": [{"role": "user", "content": [{"type": "text", "text": "2+2?"}]}], "chosen": [{"role": "assistant", "content": [{"type": "text", "text": "4"}]}], "rejected": [{"role": "assistant", "content": [{"type": "text", "text": "5"}]}]}"#;

const QUESTION: &str = "<|im_start|>user\nWhat time is it in Oslo?<|im_end|>\n";
const ANSWER: &str = "<|im_start|>assistant\n";

fn group(row: &str) -> PromptGroup {
    let mut reader =
        DataSource::from_reader(std::io::Cursor::new(row.to_owned()), "data.jsonl", &LoadOptions::default()).unwrap();
    reader.next().unwrap().unwrap()
}

fn tokenizer(template: &str, changes: TokenizerChanges) -> TextTokenizer {
    let config = json!({"eos_token": "<|im_end|>", "chat_template": template});
    changes.open(character_dir(config, &[]).path()).unwrap()
}

/// Prompt and responses as text.
fn texts(group: &PromptGroup, tokenizer: &TextTokenizer) -> (String, Vec<String>) {
    let tokenized = tokenize_group(group, tokenizer, &TokenizeOptions::default()).unwrap();
    let text = |ids: &[u32]| tokenizer.decode(ids, false).unwrap();
    (text(&tokenized.prompt_ids), tokenized.responses.iter().map(|response| text(&response.ids)).collect())
}

#[rstest]
#[case::tools(TOOLS, &format!("<|im_start|>tools\n[{{\"type\": \"function\", \"function\": {{\"name\": \"clock\", \"description\": \"time of a town\", \"parameters\": {{\"type\": \"object\", \"properties\": {{\"town\": {{\"type\": \"string\"}}}}}}}}}}]<|im_end|>\n{QUESTION}{ANSWER}<call>{{\"name\": \"clock\", \"arguments\": {{\"town\": \"Oslo\"}}}}</call><|im_end|>\n<|im_start|>tool\n14:05<|im_end|>\n{ANSWER}"), ["It is 14:05.<|im_end|>", "No idea.<|im_end|>"])]
#[case::call(CALL, &format!("{QUESTION}{ANSWER}"), ["Let me look.<call>{\"name\": \"clock\", \"arguments\": {\"town\": \"Oslo\"}}</call><|im_end|>", "Let me look.<call>{\"name\": \"clock\", \"arguments\": {\"town\": \"Rome\"}}</call><|im_end|>"])]
#[case::null_content(NULL, &format!("{QUESTION}{ANSWER}<call>{{\"name\": \"clock\", \"arguments\": {{\"town\": \"Oslo\"}}}}</call><|im_end|>\n<|im_start|>tool\n14:05<|im_end|>\n{ANSWER}"), ["It is 14:05.<|im_end|>", "No idea.<|im_end|>"])]
#[case::reasoning(REASONING, &format!("<|im_start|>user\n2+2?<|im_end|>\n{ANSWER}"), ["<think>two and two</think>4<|im_end|>", "<think>guess</think>4<|im_end|>"])]
#[case::parts(PARTS, &format!("<|im_start|>user\n[{{'type': 'text', 'text': '2+2?'}}]<|im_end|>\n{ANSWER}"), ["[{'type': 'text', 'text': '4'}]<|im_end|>", "[{'type': 'text', 'text': '5'}]<|im_end|>"])]
fn a_row_is_rendered_whole(#[case] row: &str, #[case] prompt: &str, #[case] responses: [&str; 2]) {
    let (found, answers) = texts(&group(row), &tokenizer(TEMPLATE, TokenizerChanges::default()));
    assert_eq!((found.as_str(), answers.iter().map(String::as_str).collect::<Vec<_>>()), (prompt, responses.to_vec()));
}

/// A call that ends in another token than text does.
#[test]
fn a_call_ends_where_its_template_ends_it() {
    let template = "{% for m in messages %}[{{ m.role }}]{% if m.tool_calls %}{{ m.tool_calls | tojson }}<|im_start|>\
                    {% else %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";
    let row = r#"{"prompt": [{"role": "user", "content": "a"}], "responses": [{"content": "", "tool_calls": [1], "reward": 1}, {"content": "b", "reward": 0}]}"#;
    let (_, answers) = texts(&group(row), &tokenizer(template, TokenizerChanges::default()));
    assert_eq!(answers, ["[1]<|im_start|>", "b<|im_end|>"]);
}

const PLAIN: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                     {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

#[rstest]
#[case(TOOLS, "tools")]
#[case(CALL, "tool_calls")]
#[case(REASONING, "reasoning_content")]
fn what_a_template_leaves_out_is_refused(#[case] row: &str, #[case] name: &str) {
    let error =
        tokenize_group(&group(row), &tokenizer(PLAIN, TokenizerChanges::default()), &TokenizeOptions::default());
    let message = error.unwrap_err().to_string();
    assert_eq!(message, format!("line 1: chat template: it leaves out \"{name}\", which the conversation has"));
}

/// The prompt and several turns as transformers 5.23 renders them together, from the generation prompt on: TRL scores it all.
#[test]
fn several_turns_are_scored_with_what_stands_between_them() {
    let row = r#"{"prompt": [{"role": "user", "content": "What time is it in Oslo?"}], "chosen": [{"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "clock", "arguments": {"town": "Oslo"}}}]}, {"role": "tool", "content": "14:05"}, {"role": "assistant", "content": "It is 14:05."}], "rejected": [{"role": "assistant", "content": "It is three."}, {"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "No."}]}"#;
    let call = r#"<call>{"name": "clock", "arguments": {"town": "Oslo"}}</call>"#;
    let (prompt, answers) = texts(&group(row), &tokenizer(TEMPLATE, TokenizerChanges::default()));
    assert_eq!(prompt, format!("{QUESTION}{ANSWER}"));
    assert_eq!(
        answers,
        [
            format!("{call}<|im_end|>\n<|im_start|>tool\n14:05<|im_end|>\n{ANSWER}It is 14:05.<|im_end|>"),
            format!("It is three.<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n{ANSWER}No.<|im_end|>"),
        ]
    );
}

#[test]
fn several_turns_have_no_place_where_the_template_rewrites_the_prompt() {
    let template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|im_end|>{% endfor %}\
                    {% if add_generation_prompt %}[assistant]<think>{% endif %}";
    let row = r#"{"prompt": [{"role": "user", "content": "a"}], "chosen": [{"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}], "rejected": [{"role": "assistant", "content": "e"}]}"#;
    let tokenized =
        tokenize_group(&group(row), &tokenizer(template, TokenizerChanges::default()), &TokenizeOptions::default());
    let message = tokenized.unwrap_err().to_string();
    let expected = "line 1: chat template: the text of the conversation does not continue the prompt's, so its 3 turns have \
                    no place";
    assert_eq!(message, expected);
}

const QUESTIONS: &str = r#"{"prompt": [{"role": "user", "content": "2+2?"}], "chosen": [{"role": "assistant", "content": "4"}], "rejected": [{"role": "assistant", "content": "5"}]}"#;

#[test]
fn a_run_may_change_template_variables_system_prompt_and_eos() {
    let template = "{% for m in messages %}{{ m.role }}:{{ m.content }}{{ eos_token }}{% endfor %}{{ mood }}\
                    {% if add_generation_prompt %}assistant:{% endif %}";
    let defaults = collimate_chat::ChatDefaults {
        system_prompt: Some("Be brief.".to_owned()),
        kwargs: serde_json::Map::from_iter([("mood".to_owned(), json!("!"))]),
    };
    let changes = TokenizerChanges {
        chat_template: Some(template.to_owned()),
        eos_token: Some("</s>".to_owned()),
        defaults,
        ..TokenizerChanges::default()
    };
    let tokenizer = tokenizer(PLAIN, changes);
    assert_eq!(tokenizer.token_text(tokenizer.eos_id()).as_deref(), Some("</s>"));
    let (prompt, _) = texts(&group(QUESTIONS), &tokenizer);
    assert_eq!(prompt, "system:Be brief.</s>user:2+2?</s>!assistant:");
    let of_its_own =
        QUESTIONS.replace(r#"{"role": "user""#, r#"{"role": "system", "content": "Rhyme."}, {"role": "user""#);
    let of_its_own = of_its_own.replace(r#""chosen""#, r#""chat_template_kwargs": {"mood": "?"}, "chosen""#);
    assert_eq!(texts(&group(&of_its_own), &tokenizer).0, "system:Rhyme.</s>user:2+2?</s>?assistant:");
}

#[test]
fn what_was_changed_is_saved_and_read_back() {
    let folder = character_dir(json!({"eos_token": {"content": "<|im_end|>"}, "chat_template": PLAIN}), &[]);
    let jinja = folder.path().join("other.jinja");
    std::fs::write(&jinja, "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}").unwrap();
    let changes = TokenizerChanges {
        chat_template_path: Some(jinja.clone()),
        eos_token: Some("</s>".to_owned()),
        ..TokenizerChanges::default()
    };
    let changed = changes.open(folder.path()).unwrap();
    assert_eq!(TokenizerChanges::default().files(folder.path()).unwrap(), []);
    for (name, text) in changes.files(folder.path()).unwrap() {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let saved = TextTokenizer::from_model_dir(folder.path()).unwrap();
    assert_eq!(texts(&group(QUESTIONS), &saved), texts(&group(QUESTIONS), &changed));
    assert_eq!(saved.token_text(saved.eos_id()).as_deref(), Some("</s>"));
    let config = std::fs::read_to_string(folder.path().join("tokenizer_config.json")).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&config).unwrap(), json!({"eos_token": {"content": "</s>"}}));
}

#[test]
fn a_template_of_another_tokenizer_needs_its_tokens() {
    let (own, other) = (
        character_dir(json!({"eos_token": "</s>"}), &[]),
        character_dir(json!({"eos_token": "<|im_end|>", "chat_template": PLAIN}), &[]),
    );
    let changes = |path: &std::path::Path| TokenizerChanges {
        chat_template_path: Some(path.to_owned()),
        ..TokenizerChanges::default()
    };
    let tokenizer = changes(other.path()).open(own.path()).unwrap();
    assert_eq!(tokenizer.token_text(tokenizer.eos_id()).as_deref(), Some("<|im_end|>"));
    let path = other.path().join("tokenizer.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("<|im_start|>", "<|begin|>");
    std::fs::write(&path, text).unwrap();
    let message = changes(other.path()).open(own.path()).unwrap_err().to_string();
    assert!(message.contains("tokens that the model lacks (<|begin|>)"), "{message}");
    let message = changes(&other.path().join("none.jinja")).open(own.path()).unwrap_err().to_string();
    assert!(message.ends_with("none.jinja: no such file"), "{message}");
}
