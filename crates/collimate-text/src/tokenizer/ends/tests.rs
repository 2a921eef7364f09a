use rstest::rstest;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::tokenizer::tests::{character_dir, id};
use crate::{TokenizeOptions, tokenize_group};
use collimate_data::{Prompt, PromptGroup, Response};

// Ids of the character tokenizer: <pad> 0, <s> 1, </s> 2, <|im_start|> 3, <|im_end|> 4, then characters.
const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}\
                      {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
const LLAMA2: &str = "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content + ' [/INST]' }}\
                      {% else %}{{ ' ' + m.content | trim + ' ' + eos_token }}{% endif %}{% endfor %}";
const ZEPHYR: &str = "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '\n' + eos_token + '\n' }}{% endfor %}\
                      {% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}";
const GEMMA: &str = "{% for m in messages %}{{ '<start_of_turn>' + m.role + '\n' + m.content + '<end_of_turn>\n' }}{% endfor %}\
                     {% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}";
const NOTHING: &str = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}";
const SYSTEM_FIRST: &str = "{% if messages[0].role != 'system' %}{{ raise_exception('no system prompt') }}{% endif %}\
                            {% for m in messages %}{{ m.content + '<|im_end|>' }}{% endfor %}";
const REFUSES: &str = "{{ raise_exception('never') }}";

fn dir(template: Option<&str>, files: &[(&str, &str)]) -> TempDir {
    character_dir(json!({"bos_token": "<s>", "eos_token": "</s>", "chat_template": template}), files)
}

fn open(dir: &TempDir) -> TextTokenizer {
    TextTokenizer::from_model_dir(dir.path()).unwrap()
}

/// Ids of a text without special tokens.
fn ids(text: &str) -> Vec<u32> {
    text.chars().map(id).collect()
}

#[rstest]
#[case::special_token(Some(CHATML), &[], &[4, 2], None)]
#[case::eos(Some(LLAMA2), &[], &[2], None)]
#[case::eos_after_a_newline(Some(ZEPHYR), &[], &[2], None)]
#[case::several_tokens(Some(GEMMA), &[], &[2], Some("<end_of_turn>"))]
#[case::no_end(Some(NOTHING), &[], &[2], None)]
#[case::system_prompt_needed(Some(SYSTEM_FIRST), &[], &[4, 2], None)]
#[case::refused(Some(REFUSES), &[], &[2], None)]
#[case::no_template(None, &[], &[2], None)]
#[case::list_of_generation(Some(CHATML), &[("generation_config.json", r#"{"eos_token_id": [2, 0]}"#)], &[4, 2, 0], None)]
#[case::base_model(None, &[("config.json", r#"{"eos_token_id": 4}"#)], &[2, 4], None)]
#[case::all_files(Some(CHATML), &[("config.json", r#"{"eos_token_id": [1, 0]}"#),
    ("generation_config.json", r#"{"eos_token_id": 0}"#)], &[4, 2, 0, 1], None)]
fn turns_end_where_template_and_files_say(
    #[case] template: Option<&str>,
    #[case] files: &[(&str, &str)],
    #[case] expected: &[u32],
    #[case] text: Option<&str>,
) {
    let tokenizer = open(&dir(template, files));
    assert_eq!((tokenizer.turn_ends().ids(), tokenizer.turn_ends().text()), (expected, text));
}

/// What training scores ends an answer, and its text is the content.
#[rstest]
#[case::special_token(CHATML)]
#[case::spaces_around(LLAMA2)]
#[case::newline_before(ZEPHYR)]
#[case::several_tokens(GEMMA)]
#[case::system_prompt_needed(SYSTEM_FIRST)]
fn a_response_of_training_is_a_complete_answer(#[case] template: &str) {
    let tokenizer = open(&dir(Some(template), &[]));
    let turn = |role: &str| Message::new(role, "Q");
    let prompt = Prompt::Messages(vec![turn("system"), turn("user")]);
    let responses = ["4.", "No way"].map(|content| Response { content: content.to_owned(), ..Response::default() });
    let group = PromptGroup { prompt, responses: responses.to_vec(), ..PromptGroup::default() };
    let tokenized = tokenize_group(&group, &tokenizer, &TokenizeOptions::default()).unwrap();
    let ends = tokenizer.turn_ends();
    for (response, tokens) in group.responses.iter().zip(&tokenized.responses) {
        assert!(ends.is_reached(&tokens.ids));
        let first = (1..=tokens.ids.len()).find(|len| ends.is_reached(&tokens.ids[..*len])).unwrap();
        for sampled in [&tokens.ids[..], &tokens.ids[..first]] {
            assert_eq!(tokenizer.answer(sampled).unwrap().trim_start(), response.content);
        }
    }
}

#[test]
fn an_end_that_is_not_special_ends_a_turn_and_is_no_part_of_the_answer() {
    let folder = dir(Some(CHATML), &[]);
    let path = folder.path().join("tokenizer.json");
    let mut json: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    json["added_tokens"][4]["special"] = json!(false);
    std::fs::write(&path, json.to_string()).unwrap();
    let tokenizer = open(&folder);
    assert_eq!(tokenizer.turn_ends().ids(), [4, 2]);
    assert_eq!(tokenizer.answer(&[id('a'), 4]).unwrap(), "a");
}

#[test]
fn an_end_of_several_tokens_ends_an_answer_however_it_is_divided() {
    let tokenizer = open(&dir(Some(GEMMA), &[]));
    let ends = tokenizer.turn_ends();
    let whole = ids("0.<end_of_turn>");
    assert!(ends.is_reached(&whole) && !ends.is_reached(&whole[..whole.len() - 1]));
    assert_eq!(tokenizer.answer(&whole).unwrap(), "0.");
    // Followed by what belongs to the same token, or by EOS.
    assert_eq!(tokenizer.answer(&[whole.clone(), vec![id('\n'), 2]].concat()).unwrap(), "0.");
    // A model that was trained elsewhere ends with EOS alone; one that was cut has no end.
    assert_eq!(tokenizer.answer(&[ids("0."), vec![2]].concat()).unwrap(), "0.");
    assert_eq!(tokenizer.answer(&ids("0.<end_of")).unwrap(), "0.<end_of");
    assert!(!ends.is_reached(&ids("0.")));
}

#[test]
fn only_the_last_token_is_the_end() {
    let tokenizer = open(&dir(Some(ZEPHYR), &[]));
    assert_eq!(tokenizer.answer(&ids("a\n")).unwrap(), "a\n");
    assert_eq!(tokenizer.answer(&[ids("a\n"), vec![2]].concat()).unwrap(), "a");
    assert_eq!(tokenizer.answer(&[ids("a\n\n"), vec![2]].concat()).unwrap(), "a\n");
    assert_eq!(tokenizer.answer(&[2]).unwrap(), "");
    assert_eq!(tokenizer.answer(&[]).unwrap(), "");
}

#[test]
fn another_eos_is_seen_by_template_and_ends() {
    let tokenizer = open(&dir(Some(ZEPHYR), &[("config.json", r#"{"eos_token_id": 2}"#)]));
    let changed = tokenizer.with_eos_token("<|im_end|>").unwrap();
    assert_eq!((changed.eos_id(), changed.turn_ends().ids()), (4, &[4, 2][..]));
    let message = Message::new("user", "a");
    assert_eq!(changed.chat_template().unwrap().render(&[message], false).unwrap(), "<|user|>\na\n<|im_end|>\n");
    let unknown = open(&dir(None, &[])).with_eos_token("<nope>").unwrap_err().to_string();
    assert!(unknown.contains("\"<nope>\" is not a token"), "{unknown}");
}

#[test]
fn another_template_moves_the_end() {
    let tokenizer = open(&dir(None, &[("generation_config.json", r#"{"eos_token_id": 0}"#)]));
    assert_eq!(tokenizer.turn_ends().ids(), [2, 0]);
    let template = ChatTemplate::new(CHATML, Default::default()).unwrap();
    assert_eq!(tokenizer.with_chat_template(template).turn_ends().ids(), [4, 2, 0]);
}

#[test]
fn an_adapters_tokenizer_also_ends_where_its_base_does() {
    let base = tempfile::tempdir().unwrap();
    std::fs::write(base.path().join("config.json"), r#"{"eos_token_id": [0, 4]}"#).unwrap();
    let adapter = dir(None, &[("generation_config.json", r#"{"eos_token_id": 4}"#)]);
    assert_eq!(open(&adapter).with_ends_of(base.path()).unwrap().turn_ends().ids(), [2, 4, 0]);
}

#[rstest]
#[case(r#"{"eos_token_id": "</s>"}"#)]
#[case(r#"{"eos_token_id": [2, -1]}"#)]
fn what_is_no_token_id_is_named(#[case] file: &str) {
    let folder = dir(None, &[("generation_config.json", file)]);
    let error = TextTokenizer::from_model_dir(folder.path()).unwrap_err().to_string();
    assert!(error.contains("generation_config.json: field \"eos_token_id\": expected a token id"), "{error}");
}
