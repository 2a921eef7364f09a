//! The base model: a tokenizer of the training questions, random weights, and supervised training on their solutions.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use collimate_files::ShardSize;
use collimate_hf::ModelConfig;
use collimate_quickstart::base::random_weights;
use collimate_train::progress::Silent;
use collimate_train::{RunControl, train};
use collimate_weights::{StorageDtype, write_model};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::{AddedToken, TokenizerImpl};

use super::FallingSize;
use super::data::sft_texts;
use crate::task::recipe_with;

type Tokenizer = TokenizerImpl<BPE, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// Padding (id 0) and end of response (id 1).
const SPECIAL: [&str; 2] = ["<|pad|>", "<|end|>"];

/// Figures of a base model.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AboutBase {
    /// Number of parameters.
    pub(super) num_parameters: usize,
    /// Mean log-prob per token of the chosen held-out solutions.
    pub(super) token_logp: f64,
}

/// Writes `dir/model` and `dir/about.json`.
///
/// # Errors
/// A file that cannot be written, or training that failed.
pub(super) fn make_base(split: &Path, size: &FallingSize, seed: u64, dir: &Path) -> Result<()> {
    let (start, run) = (dir.join("start"), dir.join("run"));
    fs::create_dir_all(&start)?;
    let vocab = write_tokenizer(&start, &sft_texts(split)?, size.vocab)?;
    let config = ModelConfig::from_json(&start.join("config.json"), config(size, vocab))?;
    write_model(&start, &config, random_weights(&config, seed), StorageDtype::F32, ShardSize::default())?;
    let path = |path: &Path| path.display().to_string();
    let settings = [
        ("model_name_or_path", path(&start)),
        ("data", path(&split.join("sft.jsonl"))),
        ("eval_data", path(&split.join("held-out.jsonl"))),
        ("output_dir", path(&run)),
        ("objective", "sft_all".to_owned()),
        ("learning_rate", "2e-3".to_owned()),
        ("weight_decay", "0.1".to_owned()),
        ("num_train_epochs", size.sft_epochs.to_string()),
        ("per_device_train_batch_size", "8".to_owned()),
        ("per_device_eval_batch_size", "16".to_owned()),
        ("max_length", "512".to_owned()),
        ("max_prompt_length", "256".to_owned()),
        ("seed", seed.to_string()),
    ];
    let summary = train(&recipe_with(&settings)?, &mut Silent, &RunControl::default())?;
    let last = summary.evaluations.last().context("an evaluation at the end")?;
    // The implicit reward of SFT is the mean log-prob per token.
    let token_logp = last.get("eval_rewards/chosen").context("a figure of the chosen responses")?;
    let num_parameters = config.tensors().iter().map(|tensor| tensor.num_elements()).sum();
    let about = AboutBase { num_parameters, token_logp };
    let model = dir.join("model");
    fs::create_dir_all(&model)?;
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(run.join(name), model.join(name)).with_context(|| format!("cannot copy {name}"))?;
    }
    fs::remove_dir_all(&run)?;
    fs::remove_dir_all(&start)?;
    Ok(fs::write(dir.join("about.json"), serde_json::to_string(&about)?)?)
}

fn config(size: &FallingSize, vocab: usize) -> serde_json::Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab,
        "hidden_size": size.hidden,
        "intermediate_size": size.hidden / 16 * 43,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.hidden / 32,
        "num_key_value_heads": size.hidden / 64,
        "head_dim": 32,
        "hidden_act": "silu",
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": true,
        "bos_token_id": null,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "initializer_range": 0.04,
        "torch_dtype": "float32",
    })
}

/// A byte-level BPE that splits numbers into digits.
fn write_tokenizer(dir: &Path, texts: &[String], vocab: usize) -> Result<usize> {
    use tokenizers::pre_tokenizers::digits::Digits;
    use tokenizers::pre_tokenizers::sequence::Sequence;
    let bytes = ByteLevel::new(false, true, true);
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![Digits::new(true).into(), bytes.into()])));
    tokenizer.with_decoder(Some(bytes));
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocab)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(SPECIAL.map(|text| AddedToken::from(text, true)).to_vec())
        .build();
    let failed = |error: tokenizers::Error| anyhow!(error);
    tokenizer.train(&mut trainer, texts.iter().cloned()).map_err(failed)?;
    tokenizer.save(dir.join("tokenizer.json"), false).map_err(failed)?;
    let config = json!({
        "bos_token": null, "eos_token": SPECIAL[1], "pad_token": SPECIAL[0], "unk_token": null,
        "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false,
    });
    fs::write(dir.join("tokenizer_config.json"), format!("{config:#}\n"))?;
    Ok(tokenizer.get_vocab_size(true))
}
