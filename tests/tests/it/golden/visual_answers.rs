//! Generation after prompts with images: positions go on where the image's longer side ends.

use std::path::Path;

use collimate_data::{DataSource, LoadOptions};
use collimate_model::GenerateOptions;
use collimate_text::{EncodedPrompt, TextTokenizer, encode_prompt};
use collimate_train::{SessionOptions, open_session};
use rstest::rstest;

#[rstest]
fn a_cache_gives_the_tokens_of_a_prompt_that_is_computed_again(#[values("qwen2_vl", "qwen2_5_vl")] model: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/parity/visual");
    if !root.exists() {
        println!("left out: {} is not there", root.display());
        return;
    }
    let folder = root.join("models").join(model);
    let tokenizer = TextTokenizer::from_model_dir(&folder).expect("a tokenizer");
    let groups = DataSource::open(root.join("data/qwen_vl/data.jsonl"), &LoadOptions::default()).expect("groups");
    let prompts: Vec<EncodedPrompt> = groups
        .map(|group| group.expect("a group"))
        .map(|group| encode_prompt(&group.prompt, &group.chat, &tokenizer).expect("a prompt"))
        .collect();
    assert!(prompts.iter().any(|prompt| prompt.images.len() == 2) && prompts.iter().any(|p| p.images.is_empty()));
    let mut session = open_session(&SessionOptions::inference(&folder, None)).expect("a session");
    let mut generate = |prompts: &[EncodedPrompt], max_new_tokens| {
        let options = GenerateOptions { max_new_tokens, ..GenerateOptions::default() };
        session.generate(prompts, &options, &mut |_| {}).expect("tokens")
    };
    let all = generate(&prompts, 8);
    for (prompt, samples) in prompts.iter().zip(&all) {
        let (first, rest) = samples[0].split_at(4);
        let longer = EncodedPrompt { ids: [prompt.ids.as_slice(), first].concat(), images: prompt.images.clone() };
        assert_eq!(generate(&[longer], 4)[0][0], rest, "{} images", prompt.images.len());
        let blind = EncodedPrompt { images: Vec::new(), ..prompt.clone() };
        assert!(prompt.images.is_empty() || generate(&[blind], 8)[0][0] != samples[0], "the image changes nothing");
    }
}
