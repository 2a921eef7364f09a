//! What the base models of all built-in tasks have in common: their files in the program, random weights to begin with, and
//! supervised training.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use collimate_files::{WriteError, open_plain, remove_leftovers, write_atomically};
use collimate_hf::{HostTensor, ModelConfig};
use collimate_train::{Observer, RunControl, TrainError, load_recipe, train};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Parts of the names of weights whose products are added to the residual stream.
const RESIDUAL: [&str; 4] = ["o_proj", "down_proj", "attn.proj.", "mlp.fc2"];

/// The files of a base model in the program: name and content.
#[derive(Debug, Clone, Copy)]
pub struct BaseFiles(pub &'static [(&'static str, &'static [u8])]);

impl BaseFiles {
    /// Writes them to a folder.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write(&self, dir: &Path) -> Result<(), TrainError> {
        fs::create_dir_all(dir).map_err(WriteError::at(dir))?;
        remove_leftovers(dir)?;
        for (name, bytes) in self.0 {
            write_atomically(&dir.join(name), bytes)?;
        }
        Ok(())
    }

    /// Whether a folder holds what [`Self::write`] writes, or began to write, and nothing else.
    pub fn are_all_of(&self, dir: &Path) -> bool {
        let is_ours = |entry: io::Result<fs::DirEntry>| -> io::Result<bool> {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let Some((_, bytes)) = self.0.iter().find(|(ours, _)| *ours == name) else {
                return Ok(name.starts_with('.'));
            };
            let mut found = Vec::new();
            open_plain(&dir.join(name))?.take(bytes.len() as u64 + 1).read_to_end(&mut found)?;
            Ok(found == *bytes)
        };
        fs::symlink_metadata(dir).is_ok_and(|found| found.is_dir())
            && fs::read_dir(dir).is_ok_and(|entries| entries.map(is_ours).all(|ours| ours.unwrap_or(false)))
    }
}

/// Supervised training that makes a base model of random weights.
#[derive(Debug, Clone, Copy)]
pub struct Supervision<'a> {
    /// The model to begin with.
    pub start: &'a Path,
    /// Its data: one response a prompt.
    pub data: &'a Path,
    /// Seed of the data's order.
    pub seed: u64,
    /// Rows in a step.
    pub batch_size: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Whether the data's order is drawn; otherwise it is that of the file.
    pub shuffle: bool,
}

impl Supervision<'_> {
    /// Trains in `output/run`, computing and storing bfloat16, and copies `files` from there to `output`.
    ///
    /// # Errors
    /// A folder cannot be written, or training fails.
    pub fn run(&self, output: &Path, files: &BaseFiles, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let run = output.join("run");
        let settings = [
            ("model_name_or_path", self.start.display().to_string()),
            ("data", self.data.display().to_string()),
            ("output_dir", run.display().to_string()),
            ("objective", "sft".to_owned()),
            ("learning_rate", self.learning_rate.to_string()),
            ("per_device_train_batch_size", self.batch_size.to_string()),
            ("warmup_ratio", "0.05".to_owned()),
            ("weight_decay", "0.01".to_owned()),
            ("shuffle", self.shuffle.to_string()),
            ("seed", self.seed.to_string()),
            ("torch_dtype", "bfloat16".to_owned()),
            ("sample_prompts", "0".to_owned()),
        ];
        let settings: Vec<(String, String)> = settings.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        let recipe = load_recipe(None, &settings)?;
        train(&recipe, observer, &RunControl::default())?;
        for (name, _) in files.0 {
            // What training does not write stands where it began.
            let from = [&run, self.start].map(|dir| dir.join(name)).into_iter().find(|path| path.is_file());
            let from = from.unwrap_or_else(|| run.join(name));
            let bytes = fs::read(&from).map_err(|source| TrainError::io(&from, source))?;
            write_atomically(&output.join(name), &bytes)?;
        }
        Ok(())
    }
}

/// Normal weights with the configuration's `initializer_range`, scaled down where they add to the residual stream;
/// norms are 1 and biases 0.
pub fn random_weights(config: &ModelConfig, seed: u64) -> Vec<(String, HostTensor)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let residual = 1.0 / (2.0 * config.num_hidden_layers as f64).sqrt();
    let mut draw = |deviation: f64| {
        // The Box-Muller transform of two uniform draws.
        let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
        (deviation * (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
    };
    let tensors = config.tensors().into_iter().map(|spec| {
        let adds = RESIDUAL.iter().any(|part| spec.name.contains(part));
        let deviation = config.initializer_range * if adds { residual } else { 1.0 };
        let data = match spec.shape.len() {
            1 if spec.name.ends_with(".bias") => vec![0.0; spec.num_elements()],
            1 => vec![1.0; spec.num_elements()],
            _ => (0..spec.num_elements()).map(|_| draw(deviation)).collect(),
        };
        (spec.name, HostTensor { shape: spec.shape, data })
    });
    tensors.collect()
}
