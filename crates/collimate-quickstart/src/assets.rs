//! The quickstart's base model and how it is made: supervised training on generated solutions, some of them with slips and
//! a bad habit, so that rewards have something to repair.

use std::fs;
use std::path::Path;

use collimate_data::RowWriter;
use collimate_files::{ShardSize, WriteError};
use collimate_hf::ModelConfig;
use collimate_train::{Observer, TrainError};
use collimate_weights::{StorageDtype, write_model};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::base::{BaseFiles, Supervision, random_weights};
use crate::problems::{Split, corrupt, forget_last_step, problem};
use crate::tokenizer::write_tokenizer;

/// The base model's files in the repository.
pub(crate) const FILES: BaseFiles = BaseFiles(&[
    ("config.json", include_bytes!("../assets/quickstart-base/config.json")),
    ("model.safetensors", include_bytes!("../assets/quickstart-base/model.safetensors")),
    ("tokenizer.json", include_bytes!("../assets/quickstart-base/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../assets/quickstart-base/tokenizer_config.json")),
]);

/// Options for making the base model.
#[derive(Debug, Clone, PartialEq)]
pub struct BaseOptions {
    /// Seed of weights, problems and slips.
    pub seed: u64,
    /// Optimizer steps.
    pub steps: usize,
    /// Problems in a step.
    pub batch_size: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Share of the solutions with a slip, in [0, 1].
    pub mistakes: f64,
    /// Share of the three-step problems whose solution stops before the last step, in [0, 1]: a bad habit to unlearn.
    pub habit: f64,
}

impl Default for BaseOptions {
    /// The options of the committed weights.
    fn default() -> Self {
        Self { seed: 1, steps: 700, batch_size: 64, learning_rate: 3e-3, mistakes: 0.2, habit: 0.55 }
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
    let vocab_size = write_tokenizer(&start, options.seed)?;
    let config = base_config(&start, vocab_size)?;
    write_model(&start, &config, random_weights(&config, options.seed), StorageDtype::F32, ShardSize::default())?;
    let data = output.join("solutions.jsonl");
    write_solutions(&data, options)?;
    let (seed, batch_size, learning_rate) = (options.seed, options.batch_size, options.learning_rate);
    Supervision { start: &start, data: &data, seed, batch_size, learning_rate, shuffle: true }
        .run(output, &FILES, observer)
}

/// A Llama of four layers and 0.7 million parameters.
fn base_config(dir: &Path, vocab_size: usize) -> Result<ModelConfig, TrainError> {
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab_size,
        "hidden_size": 128,
        "intermediate_size": 352,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "hidden_act": "silu",
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": true,
        "bos_token_id": null,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "initializer_range": 0.04,
        "torch_dtype": "float32",
    });
    Ok(ModelConfig::from_json(&dir.join("config.json"), config)?)
}

/// Writes one solution per problem, in Collimate's layout.
fn write_solutions(path: &Path, options: &BaseOptions) -> Result<(), TrainError> {
    let mut rows = RowWriter::create_plain(path)?;
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed ^ 0x5eed);
    for index in 0..(options.steps * options.batch_size) as u64 {
        let problem = problem(options.seed, index, Split::Train);
        let forgets = rng.random::<f64>() < options.habit;
        let slips = rng.random::<f64>() < options.mistakes;
        let solution = match forget_last_step(&problem).filter(|_| forgets) {
            Some(short) => short,
            None if slips => corrupt(&problem, &mut rng),
            None => problem.solution.clone(),
        };
        rows.push(&json!({ "prompt": problem.prompt, "responses": [{ "content": solution, "reward": 1.0 }] }))?;
    }
    Ok(rows.commit()?)
}
