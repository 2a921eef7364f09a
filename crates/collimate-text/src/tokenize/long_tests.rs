//! Texts beyond the limit that options cut: the same tokens as if the whole text had been tokenized.

use collimate_data::{Prompt, Response};

use super::*;
use crate::tokenizer::long::PIECE_BYTES;
use crate::tokenizer::long::tests::{kinds, open};

const LIMIT: usize = 3 * PIECE_BYTES / 2;

fn prose(num_bytes: usize) -> String {
    let sentence = |i: usize| format!("Hello world, this is number {i}: don't say größe or 日本語!\n");
    let mut text: String = (0..num_bytes / 50).map(sentence).collect();
    text.truncate(text.floor_char_boundary(num_bytes));
    text
}

fn group(prompt: &str, contents: &[String]) -> PromptGroup {
    let response = |content: &String| Response { content: content.clone(), ..Response::default() };
    let responses = contents.iter().map(response).collect();
    PromptGroup { prompt: Prompt::Text(prompt.to_owned()), responses, ..PromptGroup::default() }
}

fn cut(max_length: usize, max_prompt_length: usize) -> TokenizeOptions {
    TokenizeOptions {
        max_length: Some(max_length),
        max_prompt_length: Some(max_prompt_length),
        ..TokenizeOptions::default()
    }
}

#[test]
fn a_text_that_is_cut_has_the_tokens_of_the_whole() {
    for (path, eos) in kinds() {
        let tokenizer = open(&path, eos);
        let long = prose(2 * LIMIT);
        let ends = tokenizer.token_text(tokenizer.eos_id()).unwrap();
        // The last is nearly all end tokens, which are one.
        let mostly_ends = format!("{}{}", prose(100), ends.repeat(LIMIT / ends.len() + 1));
        let contents = [long.clone(), prose(100), format!("{long}{ends}"), mostly_ends];
        for prompt in ["Hello world\n", &long] {
            let group = group(prompt, &contents);
            for options in [cut(30, 20), cut(9000, 5000), cut(1 << 20, 7)] {
                let (whole, known) = tokenize_within(&group, &tokenizer, &options, usize::MAX).unwrap();
                let (cut, checks) = tokenize_within(&group, &tokenizer, &options, LIMIT).unwrap();
                assert!(cut == whole, "{} {options:?} {}", path.display(), prompt.len());
                assert!(prompt.len() < LIMIT || cut.num_prompt_cut > 0);
                // Only texts that are whole are decoded.
                assert!(checks.different.count <= known.different.count && checks.texts <= known.texts, "{checks:?}");
            }
        }
    }
}

#[test]
fn a_text_that_nothing_cuts_is_refused() {
    let (path, eos) = &kinds()[0];
    let tokenizer = open(path, eos);
    let long = prose(2 * LIMIT);
    let contents = |content: &str| [content.to_owned(), "b".to_owned()];
    let refused = |prompt: &str, content: &str, options: &TokenizeOptions| {
        tokenize_within(&group(prompt, &contents(content)), &tokenizer, options, LIMIT).unwrap_err().to_string()
    };
    let length = TokenizeOptions { max_length: Some(100), ..TokenizeOptions::default() };
    let prompt_length = TokenizeOptions { max_prompt_length: Some(100), ..TokenizeOptions::default() };
    assert!(refused(&long, "a", &length).contains("field \"prompt\": 196608 bytes of text"));
    assert!(refused("a", &long, &prompt_length).contains("field \"responses[0].content\": 196608 bytes of text"));
}
