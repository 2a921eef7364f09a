//! The tokenizer of the benchmarks: a byte-level BPE of up to 16,384 tokens, trained on GSM8K's text.

use std::path::Path;

use anyhow::{Result, anyhow};
use serde_json::{Value, json};
use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::{AddedToken, Tokenizer, TokenizerImpl};

use crate::files::write_json;

const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const VOCAB: usize = 16_384;
const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] \
                             + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

type Trained = TokenizerImpl<BPE, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// Trains on every prompt and response of a file of groups and writes `tokenizer.json` and `tokenizer_config.json` into `dir`.
///
/// # Errors
/// The data cannot be read or a file cannot be written.
pub fn write_tokenizer(dir: &Path, data: &str) -> Result<()> {
    let rows = data.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let texts = rows.iter().flat_map(texts).map(str::to_owned);
    let mut tokenizer = Trained::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::new(false, true, true)));
    let mut trainer = BpeTrainer::builder()
        .vocab_size(VOCAB)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(SPECIAL.map(|text| AddedToken::from(text, true)).to_vec())
        .build();
    tokenizer.train(&mut trainer, texts).map_err(|error| anyhow!(error))?;
    tokenizer.save(dir.join("tokenizer.json"), false).map_err(|error| anyhow!(error))?;
    let config = json!({
        "bos_token": null, "eos_token": SPECIAL[2], "pad_token": SPECIAL[0], "unk_token": null,
        "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false,
        "chat_template": CHAT_TEMPLATE,
    });
    write_json(&dir.join("tokenizer_config.json"), &config)
}

fn texts(row: &Value) -> impl Iterator<Item = &str> {
    let list = |name: &str| row[name].as_array().into_iter().flatten();
    list("prompt").chain(list("responses")).filter_map(|part| part["content"].as_str())
}

/// Words that are a single token with the space before them, in a fixed order.
///
/// # Errors
/// `dir` holds no tokenizer.
pub fn words(dir: &Path) -> Result<Vec<String>> {
    let tokenizer = Tokenizer::from_file(dir.join("tokenizer.json")).map_err(|error| anyhow!(error))?;
    let mut words: Vec<String> = tokenizer.get_vocab(false).into_keys().filter_map(|token| as_word(&token)).collect();
    words.sort_unstable();
    Ok(words)
}

/// `Ġword` as ` word`.
fn as_word(token: &str) -> Option<String> {
    let letters = token.strip_prefix('Ġ')?;
    let is_word = letters.len() > 2 && letters.bytes().all(|byte| byte.is_ascii_lowercase());
    is_word.then(|| format!(" {letters}"))
}
