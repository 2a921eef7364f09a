//! The small Qwen2-VL in the repository, and how it is made: supervised training on generated pictures and answers, some of
//! them wrong, so that rewards have something to repair.

use std::fs;
use std::path::Path;

use collimate_data::RowWriter;
use collimate_files::{ShardSize, WriteError, write_atomically};
use collimate_hf::ModelConfig;
use collimate_messages::data_uri;
use collimate_quickstart::base::{Supervision, random_weights};
use collimate_quickstart::tokenizer::{END, PAD, START, SmallTokenizer};
use collimate_train::{Observer, TrainError};
use collimate_weights::{StorageDtype, write_model};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::files::FILES;
use crate::pipeline::{png_of, row_of};
use crate::question::{CountingQuestion, Split, counting_question, written};
use crate::scene::{CELLS, SIDE};

/// Around an image's tokens, ids 3 and 4, and these tokens themselves, id 5.
const IMAGE: [&str; 3] = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>"];

/// ChatML turns whose contents are texts or parts.
const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}{% if message['content'] is string %}{{ message['content'] }}\
                             {% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}\
                             {% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}\
                             {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// Questions that the tokenizer's merges are learned from.
const TOKENIZER_QUESTIONS: u64 = 500;

/// Options for making the base model.
#[derive(Debug, Clone, PartialEq)]
pub struct BaseOptions {
    /// Seed of weights, pictures and mistakes.
    pub seed: u64,
    /// Optimizer steps.
    pub steps: usize,
    /// Pictures in a step.
    pub batch_size: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Share of the rows of data that come first and have no mistakes, in [0, 1]: seeing is learned sooner from right answers.
    pub right_first: f64,
    /// Share of the other answers in which a row is one off, in [0, 1].
    pub mistakes: f64,
    /// Share of the other questions that name a color whose answer overlooks it, in [0, 1]: a bad habit to unlearn.
    pub habit: f64,
}

impl Default for BaseOptions {
    /// The options of the committed weights.
    fn default() -> Self {
        Self {
            seed: 1,
            steps: 1200,
            batch_size: 32,
            learning_rate: 2e-3,
            right_first: 0.75,
            mistakes: 0.15,
            habit: 0.55,
        }
    }
}

/// Writes the committed base model to a folder.
///
/// # Errors
/// The folder cannot be written.
pub fn write_base(dir: &Path) -> Result<(), TrainError> {
    FILES.write(dir)
}

/// Makes a base model from scratch in `output`: tokenizer, random weights, supervised training.
///
/// # Errors
/// A folder cannot be written, or training fails.
pub fn make_base(output: &Path, options: &BaseOptions, observer: &mut dyn Observer) -> Result<(), TrainError> {
    let start = output.join("start");
    fs::create_dir_all(&start).map_err(WriteError::at(&start))?;
    let texts = (0..TOKENIZER_QUESTIONS).map(|index| {
        let question = counting_question(options.seed, index, Split::Train);
        format!("user\n{}assistant\n{}", question.text(), question.solution())
    });
    let special = [PAD, START, END].into_iter().chain(IMAGE).collect::<Vec<_>>();
    let tokenizer = SmallTokenizer { special: &special, chat_template: CHAT_TEMPLATE };
    let vocab_size = tokenizer.write(&start, texts)?;
    let settings = json!({ "min_pixels": SIDE * SIDE, "max_pixels": SIDE * SIDE, "image_processor_type": "Qwen2VLImageProcessor" });
    write_atomically(&start.join("preprocessor_config.json"), format!("{settings:#}\n").as_bytes())?;
    let config = base_config(&start, vocab_size)?;
    write_model(&start, &config, random_weights(&config, options.seed), StorageDtype::F32, ShardSize::default())?;
    let data = output.join("answers.jsonl");
    write_answers(&data, options)?;
    let (seed, batch_size, learning_rate) = (options.seed, options.batch_size, options.learning_rate);
    Supervision { start: &start, data: &data, seed, batch_size, learning_rate, shuffle: false }
        .run(output, &FILES, observer)
}

/// A Qwen2-VL of two blocks in the tower and three in the text model.
fn base_config(dir: &Path, vocab_size: usize) -> Result<ModelConfig, TrainError> {
    let config = json!({
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl",
        "vocab_size": vocab_size,
        "hidden_size": 96,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_act": "silu",
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        // Heights and widths turn by the lower two thirds of the frequencies: at the usual 10,000 the rows of a picture would be all but
        // one place.
        "rope_theta": 10.0,
        "rope_scaling": { "type": "mrope", "mrope_section": [4, 4, 4] },
        "use_sliding_window": false,
        "tie_word_embeddings": true,
        "bos_token_id": null,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "vision_start_token_id": 3,
        "vision_end_token_id": 4,
        "image_token_id": 5,
        // The usual 0.02 is that of widths around a thousand: here attention would take long to tell one cell from another.
        "initializer_range": 0.1,
        "torch_dtype": "float32",
        "vision_config": {
            "depth": 2, "embed_dim": 64, "hidden_size": 96, "mlp_ratio": 3, "num_heads": 4, "patch_size": 14,
            "spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3,
        },
    });
    Ok(ModelConfig::from_json(&dir.join("config.json"), config)?)
}

/// Writes one answer per question, with the picture as a data URI.
fn write_answers(path: &Path, options: &BaseOptions) -> Result<(), TrainError> {
    let mut rows = RowWriter::create_plain(path)?;
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed ^ 0x5eed);
    let count = (options.steps * options.batch_size) as u64;
    let first_mistake = (options.right_first * count as f64) as u64;
    for index in 0..count {
        let question = counting_question(options.seed, index, Split::Train);
        let answer = match index < first_mistake {
            true => question.solution(),
            false => answer(&question, options, &mut rng),
        };
        let prompt = row_of(&question, &data_uri("image/png", &png_of(&question)?));
        rows.push(&json!({ "prompt": prompt, "responses": [{ "content": answer, "reward": 1.0 }] }))?;
    }
    Ok(rows.commit()?)
}

/// The worked answer, or the one of the habit, or one in which a row is one off.
fn answer(question: &CountingQuestion, options: &BaseOptions, rng: &mut impl Rng) -> String {
    let (overlooks, slips) = (rng.random::<f64>() < options.habit, rng.random::<f64>() < options.mistakes);
    let mut rows = question.overlooking_color().filter(|_| overlooks).unwrap_or_else(|| question.rows());
    let (row, is_more) = (rng.random_range(0..CELLS), rng.random::<bool>());
    if slips {
        rows[row] = if is_more { rows[row] + 1 } else { rows[row].saturating_sub(1) };
    }
    written(rows)
}

#[cfg(test)]
mod tests {
    use collimate_data::ChatInputs;
    use collimate_quickstart::task::{Question, Task};
    use collimate_text::{EncodedPrompt, TextTokenizer, encode_prompt};

    use super::*;
    use crate::pipeline::Counting;

    #[test]
    fn the_base_model_fits_into_the_repository_and_sees_a_token_a_cell() {
        let size: usize = FILES.0.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(size < 4_000_000, "{size} bytes");
        let folder = tempfile::tempdir().expect("a folder");
        write_base(&folder.path().join("base")).expect("a model");
        let tokenizer = TextTokenizer::from_model_dir(&folder.path().join("base")).expect("a tokenizer");
        let task = Counting { num_questions: 2, num_held_out: 1 };
        let questions = task.questions(folder.path(), 1).expect("questions");
        for question in questions.held_out.iter().chain(&questions.training) {
            let prompt: EncodedPrompt =
                encode_prompt(&question.prompt(), &ChatInputs::default(), &tokenizer).expect("a prompt");
            assert_eq!(prompt.images.len(), 1);
            assert_eq!(prompt.images[0].tokens.len(), 16);
        }
    }
}
