use std::collections::BTreeMap;

use collimate_data::{Message, Prompt, Response};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::tokenizer::tests::{character_dir, id};

pub(super) const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}\
                      {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

pub(super) fn tokenizer(template: &str) -> TextTokenizer {
    let config = json!({"bos_token": "<s>", "eos_token": "</s>", "chat_template": template});
    TextTokenizer::from_model_dir(character_dir(config, &[]).path()).unwrap()
}

fn group(prompt: Prompt, contents: &[&str]) -> PromptGroup {
    let response = |(k, content): (usize, &&str)| Response {
        content: content.to_string(),
        reward: k as f64,
        ..Response::default()
    };
    let responses = contents.iter().enumerate().map(response).collect();
    PromptGroup { index: 4, line: 7, prompt, responses, ..PromptGroup::default() }
}

fn text(prompt: &str, contents: &[&str]) -> PromptGroup {
    group(Prompt::Text(prompt.to_owned()), contents)
}

pub(super) fn chat(contents: &[&str]) -> PromptGroup {
    let user = Message::new("user", "Q");
    group(Prompt::Messages(vec![user]), contents)
}

pub(super) fn ids(text: &str) -> Vec<u32> {
    text.chars().map(id).collect()
}

/// The group's responses as text, special tokens included.
fn response_texts(group: &PromptGroup, tokenizer: &TextTokenizer) -> Vec<String> {
    let group = tokenize_group(group, tokenizer, &TokenizeOptions::default()).unwrap();
    group.responses.iter().map(|response| tokenizer.decode(&response.ids, false).unwrap()).collect()
}

#[test]
fn a_string_prompt_has_bos_and_its_responses_end_with_eos() {
    let group = tokenize_group(&text("ab", &["c", "de"]), &tokenizer(""), &TokenizeOptions::default()).unwrap();
    assert_eq!(group.prompt_ids, [&[1], ids("ab").as_slice()].concat());
    assert_eq!(group.responses[0].ids, [id('c'), 2]);
    assert_eq!(group.responses[1], TokenizedResponse { ids: vec![id('d'), id('e'), 2], reward: 1.0, num_cut: 0 });
    assert_eq!((group.index, group.line, group.num_prompt_cut), (4, 7, 0));
}

#[test]
fn eos_stands_once_even_if_the_text_brings_its_own() {
    let group = text("a", &["b</s>", "b</s></s>", "b</s>c"]);
    assert_eq!(response_texts(&group, &tokenizer("")), ["b</s>", "b</s>", "b</s>c</s>"]);
}

/// `e`, `m`, `<` and `d|>` also occur in what the template writes after the content.
#[test]
fn a_turn_ends_with_the_templates_end_token_whatever_the_content() {
    let contents = ["4", "e", "m", "<", "d|>", "Hi <|im_end|> there", "x<|im_end|>", " 7 ", "</s>x"];
    let expected = contents.map(|content| format!("{}<|im_end|>", content.trim_end_matches("<|im_end|>")));
    let tokenizer = tokenizer(CHATML);
    let group = chat(&contents);
    assert_eq!(response_texts(&group, &tokenizer), expected);
    let prompt = tokenize_group(&group, &tokenizer, &TokenizeOptions::default()).unwrap().prompt_ids;
    assert_eq!(tokenizer.decode(&prompt, false).unwrap(), "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n");
}

const TRIMMED: &str = "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[I]' + m.content + '[/I]' }}\
                       {% else %}{{ ' ' + m.content | trim + eos_token }}{% endif %}{% endfor %}";
const NO_END: &str = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}\
                      {% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}";
const TWO_ENDS: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + ' ' + m.content + '<|im_end|>\n' }}{% endfor %}\
                        {% if add_generation_prompt %}{{ '<|im_start|>assistant ' }}{% else %}{{ eos_token }}{% endif %}";
const OPENS_THOUGHT: &str = "{% for m in messages %}{{ m.role + ':' + m.content | trim }}\
                             {% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}\
                             {% if add_generation_prompt %}{{ 'assistant:<think>\n' }}{% endif %}";
const EMPTY_THOUGHT: &str = "{% for m in messages %}{{ m.role + ':' }}{% if m.role == 'assistant' %}<think></think>{% endif %}\
                             {{ m.content + '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";

/// As DeepSeek's distills: the generation prompt opens a thought, and a conversation's thoughts are dropped.
const DROPS_THOUGHTS: &str = "{% for m in messages %}{% if m.role == 'user' %}{{ '[U]' + m.content }}{% else %}\
    {{ '[A]' + m.content.split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}\
    {% if add_generation_prompt %}{{ '[A]<think>\n' }}{% endif %}";
/// The same, but the generation prompt opens nothing.
const DROPS_THEM_ONLY: &str = "{% for m in messages %}{% if m.role == 'user' %}{{ '[U]' + m.content + '[A]' }}{% else %}\
    {{ m.content.split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}";
/// As Qwen3: thoughts of the last turn are written anew, and there is always one.
const REWRITES_THOUGHTS: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}\
    {% set parts = m.content.split('</think>') %}{% set thought = parts[0].split('<think>')[-1] if parts | length > 1 else '' %}\
    {{ '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + parts[-1].lstrip('\n') }}{% else %}{{ m.content }}{% endif %}\
    {{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}";

/// A response's thought stands once, whatever the template does with thoughts and whether the prompt opens it.
#[rstest]
#[case::opened("opened", DROPS_THOUGHTS.to_owned(), "[A]<think>\n", ["so\n</think>\n\n4</s>", "so</think>4</s>", "so</think>4</s>", "4</s>"])]
#[case::opened_and_kept("kept", OPENS_THOUGHT.to_owned(), "assistant:<think>\n", ["so\n</think>\n\n4</s>", "so</think>4</s>", "so</think>4</s>", "4</s>"])]
#[case::dropped("dropped", DROPS_THEM_ONLY.to_owned(), "[A]", ["<think>\nso\n</think>\n\n4</s>", "<think>so</think>4</s>", "so</think>4</s>", "4</s>"])]
#[case::rewritten("rewritten", format!("{REWRITES_THOUGHTS}{{% endif %}}"), "<|im_start|>assistant\n", ["<think>\nso\n</think>\n\n4<|im_end|>", "<think>\nso\n</think>\n\n4<|im_end|>", "<think>\nso\n</think>\n\n4<|im_end|>", "<think>\n\n</think>\n\n4<|im_end|>"])]
#[case::rewritten_and_opened("open", format!("{REWRITES_THOUGHTS}{{{{ '<think>\n' }}}}{{% endif %}}"), "<|im_start|>assistant\n<think>\n", ["so\n</think>\n\n4<|im_end|>", "so\n</think>\n\n4<|im_end|>", "so\n</think>\n\n4<|im_end|>", "\n</think>\n\n4<|im_end|>"])]
fn a_thought_stands_once(
    #[case] what: &str,
    #[case] template: String,
    #[case] end_of_prompt: &str,
    #[case] expected: [&str; 4],
) {
    let tokenizer = tokenizer(&template);
    let group = chat(&["<think>\nso\n</think>\n\n4", "<think>so</think>4", "so</think>4", "4"]);
    assert_eq!(response_texts(&group, &tokenizer), expected, "{what}");
    let prompt = tokenize_group(&group, &tokenizer, &TokenizeOptions::default()).unwrap().prompt_ids;
    let prompt = tokenizer.decode(&prompt, false).unwrap();
    assert!(prompt.ends_with(end_of_prompt), "{what}: {prompt:?}");
}

#[test]
fn a_thought_after_a_finished_one_is_refused() {
    let template = format!("{REWRITES_THOUGHTS}{{{{ '<think>\n\n</think>\n\n' }}}}{{% endif %}}");
    let tokenizer = tokenizer(&template);
    assert_eq!(response_texts(&chat(&["4", "5"]), &tokenizer), ["4<|im_end|>", "5<|im_end|>"]);
    let error = tokenize_group(&chat(&["4", "<think>so</think>4"]), &tokenizer, &TokenizeOptions::default());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("the generation prompt ends with a thought"), "{error}");
}

#[rstest]
#[case::chatml(CHATML, "4<|im_end|>")]
#[case::leading_space(TRIMMED, " 4</s>")]
#[case::no_end_token(NO_END, "4\n</s>")]
#[case::first_of_two_ends(TWO_ENDS, "4<|im_end|>")]
#[case::rendering_does_not_continue_the_prompt(OPENS_THOUGHT, "4</s>")]
#[case::text_before_the_content(EMPTY_THOUGHT, "<think></think>4<|im_end|>")]
fn the_response_is_what_the_template_adds(#[case] template: &str, #[case] expected: &str) {
    let tokenizer = tokenizer(template);
    assert_eq!(response_texts(&chat(&["4", "5"]), &tokenizer), [expected, &expected.replace('4', "5")]);
}

#[test]
fn a_prompt_keeps_its_end_and_all_responses_the_same_budget() {
    let options = TokenizeOptions { max_length: Some(5), max_prompt_length: Some(2), ..TokenizeOptions::default() };
    let (groups, counts) = tokenize_all(&[text("abc", &["defg", "h", "defx"])], &tokenizer(""), &options).unwrap();
    let group = &groups[0];
    assert_eq!((group.prompt_ids.as_slice(), group.num_prompt_cut), (ids("bc").as_slice(), 2));
    // 5 − 2 = 3 tokens are left: "defg" + EOS loses 2, "h" + EOS none.
    assert_eq!(group.responses[0], TokenizedResponse { ids: ids("def"), reward: 0.0, num_cut: 2 });
    assert_eq!(group.responses[1].ids, [id('h'), 2]);
    assert_eq!((counts.cut_prompts, counts.cut_prompt_tokens), (1, 2));
    assert_eq!((counts.cut_responses, counts.cut_response_tokens), (2, 2 + 2));
    assert_eq!((counts.prompt_tokens, counts.response_tokens), (2, 3 + 2 + 3));
    assert_eq!((counts.identical_responses, counts.identical_groups), (1, 0));
}

#[rstest]
#[case::one_response(text("a", &["b"]), "line 7: 1 response, at least 2 are needed")]
#[case::empty(text("a", &["b", ""]), "line 7: field \"responses[1].content\": the response is empty")]
#[case::white_space(text("a", &[" \n", "b"]), "line 7: field \"responses[0].content\": the response is empty")]
#[case::only_eos(text("a", &["b", "</s>"]), "line 7: field \"responses[1].content\": the response is empty")]
#[case::no_room(text("abcdefgh", &["b", "c"]), "line 7: the prompt has 9 tokens, which leaves no room")]
fn unusable_groups_are_errors_or_counted(#[case] group: PromptGroup, #[case] expected: &str) {
    let tokenizer = tokenizer("");
    let options = TokenizeOptions { max_length: Some(9), ..TokenizeOptions::default() };
    let groups = [text("a", &["b", "c"]), group];
    let error = tokenize_all(&groups, &tokenizer, &options).unwrap_err().to_string();
    assert!(error.starts_with(expected), "{error}");
    let (kept, counts) =
        tokenize_all(&groups, &tokenizer, &TokenizeOptions { skip_unusable: true, ..options }).unwrap();
    assert_eq!((kept.len(), counts.groups, counts.num_skipped()), (1, 1, 1));
}

/// More groups than are tokenized at once; those at `empty` have an empty response.
fn many(empty: &[usize]) -> Vec<PromptGroup> {
    let group = |i: usize| {
        let second = if empty.contains(&i) { "" } else { "c" };
        PromptGroup { index: i, line: i + 1, ..text(&"a".repeat(1 + i % 3), &["b", second]) }
    };
    (0..2 * GROUPS_AT_ONCE + 3).map(group).collect()
}

#[rstest]
#[case(&[5, 3], 3)]
#[case(&[2 * GROUPS_AT_ONCE + 1, GROUPS_AT_ONCE], GROUPS_AT_ONCE)]
#[case(&[GROUPS_AT_ONCE, GROUPS_AT_ONCE - 1], GROUPS_AT_ONCE - 1)]
fn the_first_bad_row_of_the_file_is_named(#[case] empty: &[usize], #[case] first: usize) {
    let error = tokenize_all(&many(empty), &tokenizer(""), &TokenizeOptions::default()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("line {}: ", first + 1)), "{error}");
}

#[test]
fn many_groups_keep_their_order_and_progress_adds_up() {
    let (groups, mut done) = (many(&[7, GROUPS_AT_ONCE]), Vec::new());
    let options = TokenizeOptions { skip_unusable: true, ..TokenizeOptions::default() };
    let (kept, counts) = tokenize_all_with(&groups, &tokenizer(""), &options, &mut |n| done.push(n)).unwrap();
    assert_eq!(done, [GROUPS_AT_ONCE, GROUPS_AT_ONCE, 3]);
    assert_eq!((kept.len(), counts.num_skipped()), (groups.len() - 2, 2));
    let expected: Vec<_> = (0..groups.len()).filter(|i| ![7, GROUPS_AT_ONCE].contains(i)).collect();
    assert_eq!(kept.iter().map(|group| group.index).collect::<Vec<_>>(), expected);
    // BOS and one to three letters.
    assert!(kept.iter().all(|group| group.prompt_ids.len() == 2 + group.index % 3));
}

#[test]
fn a_conversation_that_the_template_refuses_is_unusable() {
    let tokenizer = tokenizer("{{ raise_exception('no users') }}");
    let options = TokenizeOptions::default();
    let error = tokenize_group(&chat(&["a", "b"]), &tokenizer, &options).unwrap_err().to_string();
    assert_eq!(error, "line 7: chat template: no users (line 1 of the template)");
    let options = TokenizeOptions { skip_unusable: true, ..options };
    let (_, counts) = tokenize_all(&[chat(&["a", "b"])], &tokenizer, &options).unwrap();
    assert_eq!(counts.skipped, BTreeMap::from([("refused by the chat template", 1)]));
}

#[test]
fn messages_without_a_template_are_an_error_even_if_unusable_rows_are_skipped() {
    let dir = character_dir(json!({"eos_token": "</s>"}), &[]);
    let tokenizer = TextTokenizer::from_model_dir(dir.path()).unwrap();
    let options = TokenizeOptions { skip_unusable: true, ..TokenizeOptions::default() };
    let error = tokenize_all(&[chat(&["a", "b"])], &tokenizer, &options).unwrap_err().to_string();
    assert!(error.contains("no chat_template.jinja"), "{error}");
}

#[test]
fn an_empty_prompt_without_bos_is_unusable() {
    let tokenizer = tokenizer("{% if messages | length > 1 %}{{ messages[-1].content }}{% endif %}");
    let error = tokenize_group(&chat(&["a", "b"]), &tokenizer, &TokenizeOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "line 7: the prompt is empty after tokenization");
}

#[test]
fn a_group_of_equal_responses_is_counted() {
    let (_, counts) =
        tokenize_all(&[text("a", &["b", "b", "b"])], &tokenizer(""), &TokenizeOptions::default()).unwrap();
    assert_eq!((counts.identical_responses, counts.identical_groups), (2, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn cutting_keeps_the_start_and_counts_the_rest(
        prompt in "[a-z]{1,12}", contents in prop::collection::vec("[a-z]{1,12}", 2..5), limit in 4..30_usize,
    ) {
        let tokenizer = tokenizer("");
        let contents: Vec<&str> = contents.iter().map(String::as_str).collect();
        let options = TokenizeOptions { max_length: Some(limit), max_prompt_length: Some(3), ..TokenizeOptions::default() };
        let whole = tokenize_group(&text(&prompt, &contents), &tokenizer, &TokenizeOptions::default()).unwrap();
        let cut = tokenize_group(&text(&prompt, &contents), &tokenizer, &options).unwrap();
        prop_assert!(whole.prompt_ids.ends_with(&cut.prompt_ids));
        prop_assert_eq!(whole.prompt_ids.len(), cut.prompt_ids.len() + cut.num_prompt_cut);
        for (whole, cut) in whole.responses.iter().zip(&cut.responses) {
            prop_assert!(whole.ids.starts_with(&cut.ids));
            prop_assert_eq!(whole.ids.len(), cut.ids.len() + cut.num_cut);
            prop_assert!(cut.ids.len() <= limit - cut_prompt(&prompt));
        }
    }
}

/// Tokens of a prompt with BOS after it was cut to 3.
fn cut_prompt(prompt: &str) -> usize {
    (prompt.len() + 1).min(3)
}

#[test]
fn long_texts_are_refused_by_field_and_can_be_skipped() {
    let reason = |group: &PromptGroup, tokenizer: &TextTokenizer| {
        tokenize_group(group, tokenizer, &TokenizeOptions::default()).unwrap_err().to_string()
    };
    let long = "ab ".repeat(2_000_000);
    let plain = tokenizer("");
    let prompt = reason(&text(&long, &["a", "b"]), &plain);
    assert!(prompt.contains("line 7: field \"prompt\": 6000000 bytes of text or ids, and at most 4194304"), "{prompt}");
    let response = text("a", &["b", &long]);
    assert!(reason(&response, &plain).contains("field \"responses[1].content\": 6000000 bytes"));
    // Each is short enough.
    let many = text("a", &vec![&long[..4_000_000]; 17]);
    assert!(reason(&many, &plain).contains("field \"responses\": 68000001 bytes"), "{}", reason(&many, &plain));
    let mut with_ids = text("a", &["b", "c"]);
    with_ids.responses[1].token_ids = Some(vec![5; 5_000_000]);
    assert!(reason(&with_ids, &plain).contains("field \"responses[1].token_ids\": 5000000 bytes of text or ids"));
    let options = TokenizeOptions { skip_unusable: true, ..TokenizeOptions::default() };
    let (kept, counts) = tokenize_all(&[response, text("a", &["b", "c"])], &plain, &options).unwrap();
    assert_eq!((kept.len(), counts.skipped), (1, BTreeMap::from([("too long a text", 1)])));
}
