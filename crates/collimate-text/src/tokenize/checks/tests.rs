use collimate_data::{Prompt, PromptGroup, Response};
use serde_json::json;

use crate::tokenizer::tests::{change_tokenizer, character_dir};
use crate::{TextTokenizer, TokenizeOptions, tokenize_all};

/// A tokenizer with a token for two characters, `ab`, and none for `ü`.
fn tokenizer() -> TextTokenizer {
    let files = [("config.json", r#"{"vocab_size": 102, "max_position_embeddings": 6}"#)];
    let dir = character_dir(json!({"bos_token": "<s>", "eos_token": "</s>"}), &files);
    change_tokenizer(dir.path(), |tokenizer| {
        tokenizer["model"]["vocab"]["ab"] = json!(101);
        tokenizer["model"]["merges"] = json!([["a", "b"]]);
    });
    TextTokenizer::from_model_dir(dir.path()).unwrap()
}

fn group(index: usize, prompt: &str, contents: &[&str]) -> PromptGroup {
    let response = |content: &&str| Response { content: (*content).to_owned(), ..Response::default() };
    let prompt = Prompt::Text(prompt.to_owned());
    PromptGroup {
        index,
        line: index + 1,
        prompt,
        responses: contents.iter().map(response).collect(),
        ..PromptGroup::default()
    }
}

#[test]
fn what_was_found_is_counted_and_said() {
    let groups = [
        group(0, "x", &["y", "z"]),
        // Together `ab` would be one token.
        group(1, "xa", &["b", "c"]),
        // No token says ü.
        group(2, "xü", &["y", "yü"]),
        // BOS, `x`, four characters and EOS.
        group(3, "x", &["yyyy", "yyy"]),
    ];
    let (_, counts) = tokenize_all(&groups, &tokenizer(), &TokenizeOptions::default()).unwrap();
    let found = &counts.texts;
    assert_eq!((found.texts, found.different.count, found.across.count, found.too_long.count), (4 + 8, 2, 1, 1));
    assert_eq!((found.compared, found.joint, found.max_positions), (7, 7, Some(6)));
    assert_eq!(
        found.summary(),
        "tokens decoded give the text of 10 of 12 prompts and responses; 7 of 7 responses compared have the same tokens \
         when encoded as one text with their prompt"
    );
    let place = |index: usize, line: usize| format!("rows.jsonl:{line} ({index})");
    assert_eq!(
        found.warnings(&place),
        [
            "warning: 2 prompts and responses have tokens that give another text, the first rows.jsonl:3 (2) (prompt: they \
             differ at \"ü\" after \"x\")",
            "warning: 1 response cannot continue its prompt's tokens, as a token would reach across the boundary, the \
             first rows.jsonl:2 (1) (\"xa\" then \"b\"); a space between the two belongs to the response",
            "warning: 1 response ends beyond the 6 positions that the model was made for, the first rows.jsonl:4 (3) (7 \
             tokens with its prompt); lower max_length",
        ]
    );
}

#[test]
fn nothing_is_said_where_nothing_was_found() {
    let groups = [group(70, "x", &["y", "z"])];
    let (_, counts) = tokenize_all(&groups, &tokenizer(), &TokenizeOptions::default()).unwrap();
    assert_eq!(counts.texts.warnings(&|_, _| String::new()), Vec::<String>::new());
    // Of later groups, only every 64th is compared.
    assert_eq!(counts.texts.summary(), "tokens decoded give the text of 3 of 3 prompts and responses");
}

#[test]
fn an_added_token_with_another_id_is_said() {
    let decoder = json!({"105": {"content": "<a>"}, "106": {"content": "<b>"}});
    let config = json!({"eos_token": "</s>", "added_tokens_decoder": decoder});
    let tokenizer = TextTokenizer::from_model_dir(character_dir(config, &[]).path()).unwrap();
    let (_, counts) = tokenize_all(&[group(0, "x", &["y", "<b>"])], &tokenizer, &TokenizeOptions::default()).unwrap();
    assert_eq!(
        counts.texts.warnings(&|_, _| String::new()),
        [
            "warning: the token \"<a>\" should have the id 105, and has 101, as in transformers; and 1 other added tokens"
        ]
    );
}

#[test]
fn a_token_without_an_embedding_is_an_error_where_it_is_used() {
    let files = [("config.json", r#"{"vocab_size": 101}"#)];
    let dir = character_dir(json!({"eos_token": "</s>", "image_token": "<image>"}), &files);
    let tokenizer = TextTokenizer::from_model_dir(dir.path()).unwrap();
    let groups = [group(0, "x", &["y", "z"]), group(1, "x", &["y", "an <image>"])];
    let options = TokenizeOptions::default();
    let error = tokenize_all(&groups, &tokenizer, &options).unwrap_err().to_string();
    let expected =
        "line 2: the model has no embedding for the token \"<image>\" (101): config.json says vocab_size 101";
    assert_eq!(error, expected);
    let skipping = TokenizeOptions { skip_unusable: true, ..options };
    let (kept, counts) = tokenize_all(&groups, &tokenizer, &skipping).unwrap();
    assert_eq!((kept.len(), counts.skipped["a token without an embedding"]), (1, 1));
}
