//! Prompts with images: their tokens, and what is refused.

use std::path::Path;

use collimate_data::{Message, Prompt, PromptGroup, Response};
use rstest::rstest;
use serde_json::{Value, json};

use crate::tokenizer::tests::{character_dir, id};
use crate::{TextTokenizer, TokenizeOptions, tokenize_group};

/// The token of an image's place.
const PLACE: u32 = 101;

const TEMPLATE: &str = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}\
                        {% if part.type == 'image' %}{{ '<img>' }}{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}\
                        {% endfor %}{% if add_generation_prompt %}{{ ':' }}{% endif %}";

fn tokenizer(model_type: &str) -> TextTokenizer {
    let config = json!({"eos_token": "</s>", "chat_template": TEMPLATE, "image_token": "<img>"});
    let model = json!({"model_type": model_type, "image_token_id": PLACE, "vocab_size": 102}).to_string();
    let files =
        [("config.json", model.as_str()), ("preprocessor_config.json", r#"{"min_pixels": 3136, "max_pixels": 12544}"#)];
    TextTokenizer::from_model_dir(character_dir(config, &files).path()).unwrap()
}

/// A picture of 60 × 40 pixels, which becomes 84 × 56: 2 × 3 tokens.
fn picture() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/image/rgb.png").display().to_string()
}

fn group(content: Value, responses: &[&str]) -> PromptGroup {
    let message: Message = serde_json::from_value(json!({"role": "user", "content": content})).unwrap();
    let response = |content: &&str| Response { content: (*content).to_owned(), ..Response::default() };
    let responses = responses.iter().map(response).collect();
    PromptGroup { line: 7, prompt: Prompt::Messages(vec![message]), responses, ..PromptGroup::default() }
}

fn with_picture(image: &str) -> PromptGroup {
    group(
        json!([{"type": "text", "text": "ab"}, {"type": "image", "image": image}, {"type": "text", "text": "c"}]),
        &["y", "z"],
    )
}

#[rstest]
fn an_image_has_a_token_for_each_square_of_patches(#[values("qwen2_vl", "qwen2_5_vl")] model_type: &str) {
    let options = TokenizeOptions::default();
    let tokenized = tokenize_group(&with_picture(&picture()), &tokenizer(model_type), &options).unwrap();
    let expected = [&[id('a'), id('b')][..], &[PLACE; 6], &[id('c'), id(':')]].concat();
    assert_eq!(tokenized.prompt_ids, expected);
    let [placed] = tokenized.images.as_slice() else { panic!("one image") };
    assert_eq!((placed.tokens.clone(), placed.grid.rows, placed.grid.columns), (2..8, 2, 3));
    assert_eq!(placed.image.size(), [40, 60]);
    assert_eq!(tokenized.responses[0].ids, [id('y'), 2]);
    assert_eq!(tokenized.prompt_key().len(), 10 + 8);
}

#[test]
fn a_cut_before_an_image_moves_it_and_one_through_it_is_refused() {
    let cut = |max_prompt_length| {
        let options = TokenizeOptions { max_prompt_length: Some(max_prompt_length), ..TokenizeOptions::default() };
        tokenize_group(&with_picture(&picture()), &tokenizer("qwen2_vl"), &options)
    };
    assert_eq!(cut(8).unwrap().images[0].tokens, 0..6);
    let expected =
        "line 7: field \"prompt\": cutting 3 tokens from its start would cut an image; raise max_prompt_length";
    assert_eq!(cut(7).unwrap_err().to_string(), expected);
}

#[rstest]
#[case::missing(with_picture("no/such.png"), "field \"prompt[0].content[1].image\": no/such.png: No such file")]
#[case::bare(with_picture(""), "field \"prompt[0].content[1].image\": expected a path, a data URI")]
#[case::broken(
    with_picture("data:image/png;base64,iVBORw0KGgo="),
    "field \"prompt[0].content[1].image\": a broken PNG image"
)]
#[case::typed(group(json!("an <img>"), &["y", "z"]), "field \"prompt[0].content\": the text has <img>, which stands for an image")]
#[case::answered(group(json!("a"), &["y", "<img>"]), "field \"responses[1].content\": the text has <img>")]
fn what_is_wrong_is_named_by_line_and_field(#[case] group: PromptGroup, #[case] expected: &str) {
    let error = tokenize_group(&group, &tokenizer("qwen2_vl"), &TokenizeOptions::default()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("line 7: {expected}")), "{error}");
}

#[test]
fn a_model_without_a_tower_refuses_images() {
    let error =
        tokenize_group(&with_picture(&picture()), &tokenizer("qwen2"), &TokenizeOptions::default()).unwrap_err();
    let expected = "line 7: field \"prompt[0].content\": the model computes no images; qwen2_vl and qwen2_5_vl do";
    assert_eq!(error.to_string(), expected);
}
