//! Answers to a few prompts before and after training: `samples.json` of a run's folder.

use std::path::Path;

use collimate_files::{WriteError, read_plain, write_atomically};
use serde::{Deserialize, Serialize};

use crate::pictures::Picture;

/// Name of the file in a run's folder.
const SAMPLES_FILE: &str = "samples.json";

/// Size limit of the file, in bytes.
const MAX_SAMPLES_BYTES: u64 = 16 << 20;

/// One prompt with the model's greedy answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// File and line of the prompt.
    #[serde(rename = "place")]
    pub location: String,
    /// The prompt as the model sees it, special tokens included.
    pub prompt: String,
    /// Small forms of the prompt's images, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Picture>,
    /// The response with the highest reward in the data.
    pub best: String,
    /// The reward of [`Sample::best`].
    pub reward: f64,
    /// The answer of the model that training starts from.
    pub before: String,
    /// The answer of the trained model; absent until training has ended.
    pub after: Option<String>,
    /// Whether the answer before training was cut to save time.
    #[serde(default, skip_serializing_if = "is_false")]
    pub before_cut: bool,
    /// Whether the answer after training was cut to save time.
    #[serde(default, skip_serializing_if = "is_false")]
    pub after_cut: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// The samples of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Samples {
    /// Maximum tokens per answer.
    pub max_new_tokens: usize,
    /// The prompts, in the data's order.
    pub prompts: Vec<Sample>,
}

impl Samples {
    /// Reads the samples of a run's folder; `None` if the file is missing or damaged, since it is only an illustration.
    pub fn read(run: &Path) -> Option<Self> {
        serde_json::from_str(&read_plain(&run.join(SAMPLES_FILE), MAX_SAMPLES_BYTES).ok()?).ok()
    }

    /// Writes the samples into a run's folder, in place of earlier ones.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, run: &Path) -> Result<(), WriteError> {
        let text = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        write_atomically(&run.join(SAMPLES_FILE), text.as_bytes())
    }
}
