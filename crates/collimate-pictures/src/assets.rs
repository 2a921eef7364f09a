//! The generator in the repository, and how it is made: supervised training on random shapes, with the class left out of a
//! tenth of the rows.

use std::path::Path;

use collimate_data::RowWriter;
use collimate_files::ShardSize;
use collimate_hf::ModelConfig;
use collimate_quickstart::base::{BaseFiles, Supervision, random_weights};
use collimate_train::{Observer, TrainError};
use collimate_weights::{StorageDtype, write_model};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::codebook::{ENTRIES, FILE, PatchCodebook, TOKENS};
use crate::shapes::{CLASSES, Shape};

/// The generator's files in the repository.
const FILES: BaseFiles = BaseFiles(&[
    ("config.json", include_bytes!("../assets/base/config.json")),
    ("model.safetensors", include_bytes!("../assets/base/model.safetensors")),
    (FILE, include_bytes!("../assets/base/vq.safetensors")),
]);

/// Options for making the generator.
#[derive(Debug, Clone, PartialEq)]
pub struct BaseOptions {
    /// Seed of weights and pictures.
    pub seed: u64,
    /// Optimizer steps.
    pub steps: usize,
    /// Pictures in a step.
    pub batch_size: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
}

impl Default for BaseOptions {
    /// The options of the committed weights.
    fn default() -> Self {
        Self { seed: 1, steps: 300, batch_size: 64, learning_rate: 3e-3 }
    }
}

/// Share of the rows without their class.
const WITHOUT_CLASS: f64 = 0.1;
/// Pictures per class that the codebook is learned from.
const CODEBOOK_PICTURES: u64 = 40;

/// Writes the committed generator to a folder.
///
/// # Errors
/// The folder cannot be written.
pub fn write_base(dir: &Path) -> Result<(), TrainError> {
    FILES.write(dir)
}

/// Makes a generator from scratch in `output`: codebook, random weights, supervised training.
///
/// # Errors
/// A folder cannot be written, or training fails.
pub fn make_base(output: &Path, options: &BaseOptions, observer: &mut dyn Observer) -> Result<(), TrainError> {
    let start = output.join("start");
    let codebook = PatchCodebook::learn(options.seed, CODEBOOK_PICTURES);
    codebook.write(&start)?;
    let config = base_config(&start)?;
    write_model(&start, &config, random_weights(&config, options.seed), StorageDtype::F32, ShardSize::default())?;
    let data = output.join("pictures.jsonl");
    let rows = Rows { seed: options.seed, count: options.steps * options.batch_size, without_class: WITHOUT_CLASS };
    rows.write(&codebook, &data)?;
    let (seed, batch_size, learning_rate) = (options.seed, options.batch_size, options.learning_rate);
    Supervision { start: &start, data: &data, seed, batch_size, learning_rate, shuffle: true }
        .run(output, &FILES, observer)
}

/// Rows of random shapes, the classes in turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) seed: u64,
    pub(crate) count: usize,
    /// Share of the rows whose condition is the null class.
    pub(crate) without_class: f64,
}

impl Rows {
    /// Writes them as `{"condition", "tokens"}`.
    pub(crate) fn write(&self, codebook: &PatchCodebook, path: &Path) -> Result<(), TrainError> {
        let mut rows = RowWriter::create_plain(path)?;
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ 0x5eed);
        for number in 0..self.count {
            let class = number % CLASSES;
            let tokens = codebook.encode(&Shape::random(class, self.seed, number as u64).draw());
            let condition = if rng.random::<f64>() < self.without_class { CLASSES } else { class };
            rows.push(&json!({ "condition": condition, "tokens": tokens }))?;
        }
        Ok(rows.commit()?)
    }
}

/// A LlamaGen of three blocks and 0.17 million parameters.
fn base_config(dir: &Path) -> Result<ModelConfig, TrainError> {
    let config = json!({
        "model_type": "llamagen",
        "gpt_type": "c2i",
        "dim": 64,
        "n_layer": 3,
        "n_head": 4,
        "multiple_of": 32,
        "rope_base": 10000,
        "norm_eps": 1e-5,
        "num_classes": CLASSES,
        "vocab_size": ENTRIES,
        "cls_token_num": 1,
        "block_size": TOKENS * TOKENS,
        "initializer_range": 0.04,
    });
    Ok(ModelConfig::from_json(&dir.join("config.json"), config)?)
}
