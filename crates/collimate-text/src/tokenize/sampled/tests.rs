use collimate_data::PromptGroup;
use rstest::rstest;

use crate::tokenize::tests::{CHATML, chat, ids, tokenizer};
use crate::{TokenizeOptions, tokenize_all, tokenize_group};

/// A group whose first response was sampled as these tokens.
fn sampled(token_ids: Vec<u32>, contents: &[&str]) -> PromptGroup {
    let mut group = chat(contents);
    group.responses[0].token_ids = Some(token_ids);
    group
}

#[rstest]
#[case::ended([ids("42"), vec![4]].concat(), "42")]
// EOS in place of the template's end: that is what the model drew.
#[case::eos([ids("42"), vec![2]].concat(), "42")]
// Stopped at a limit, after one token: no end is made up.
#[case::cut(ids("4"), "4")]
fn a_sampled_response_is_the_tokens_that_were_sampled(#[case] token_ids: Vec<u32>, #[case] content: &str) {
    let (group, tokenizer) = (sampled(token_ids.clone(), &[content, "no"]), tokenizer(CHATML));
    let tokenized = tokenize_group(&group, &tokenizer, &TokenizeOptions::default()).unwrap();
    assert_eq!(tokenized.responses[0].ids, token_ids);
    let (_, counts) = tokenize_all(&[group], &tokenizer, &TokenizeOptions::default()).unwrap();
    assert_eq!((counts.texts.sampled, counts.texts.foreign.count), (1, 0));
    let summary = counts.texts.summary();
    assert!(summary.ends_with("; 1 response has the tokens that were sampled (token_ids)"), "{summary}");
}

#[rstest]
#[case::edited([ids("41"), vec![4]].concat())]
#[case::other_vocabulary(vec![5000, 4])]
#[case::none(vec![])]
fn tokens_that_are_not_the_text_are_passed_over_and_counted(#[case] token_ids: Vec<u32>) {
    let (group, tokenizer) = (sampled(token_ids, &["42", "no"]), tokenizer(CHATML));
    let (tokenized, counts) = tokenize_all(&[group], &tokenizer, &TokenizeOptions::default()).unwrap();
    assert_eq!(tokenized[0].responses[0].ids, [ids("42"), vec![4]].concat());
    assert_eq!((counts.texts.sampled, counts.texts.foreign.count), (0, 1));
    let warnings = counts.texts.warnings(&|_, line| format!("line {line}")).concat();
    let expected =
        "warning: 1 response has token_ids that are not what its text says with this tokenizer, the first line 7";
    assert!(warnings.starts_with(expected) && warnings.ends_with("; the text was encoded"), "{warnings}");
}

#[test]
fn a_sampled_response_is_truncated_like_any_other() {
    let (group, tokenizer) = (sampled([ids("4242"), vec![4]].concat(), &["4242", "no"]), tokenizer(CHATML));
    let options = TokenizeOptions { max_response_length: Some(3), ..TokenizeOptions::default() };
    let (tokenized, counts) = tokenize_all(&[group], &tokenizer, &options).unwrap();
    assert_eq!((tokenized[0].responses[0].ids.clone(), tokenized[0].responses[0].num_cut), (ids("424"), 2));
    assert_eq!(counts.texts.sampled, 1);
}
