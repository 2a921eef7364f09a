//! `collimate train --quickstart images`: the task of counting for the phases of a quickstart.

use std::path::{Path, PathBuf};
use std::{fs, io};

use collimate_data::{Message, Prompt};
use collimate_files::{WriteError, write_atomically};
use collimate_quickstart::base::BaseFiles;
use collimate_quickstart::phases::{free_folder_of, recipe_of};
use collimate_quickstart::task::{Question, Questions, Task};
use collimate_recipe::Recipe;
use collimate_train::TrainError;
use serde_json::{Value, json};

use crate::files::FILES;
use crate::question::{CountingQuestion, Split, counting_question};

pub use collimate_quickstart::phases::{Quickstart, QuickstartSummary};

/// Folder of the pictures in the run's folder.
const IMAGES: &str = "images";

/// How many questions a quickstart uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counting {
    /// Questions to sample responses for and train on.
    pub num_questions: usize,
    /// Held-out questions to measure accuracy on.
    pub num_held_out: usize,
}

impl Default for Counting {
    fn default() -> Self {
        Self { num_questions: 512, num_held_out: 200 }
    }
}

/// A question whose picture is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredQuestion {
    question: CountingQuestion,
    /// The run's folder, and the picture's path in it.
    run: PathBuf,
    picture: String,
}

impl Question for StoredQuestion {
    const NAME: &'static str = "question";
    /// `1+0+2+0. Answer: 3` is twelve tokens with its end.
    const MAX_NEW_TOKENS: usize = 20;

    fn prompt(&self) -> Prompt {
        let mut message = Message::new("user", self.question.text());
        message.put_before(&[self.run.join(&self.picture).to_string_lossy().into()]);
        Prompt::Messages(vec![message])
    }

    fn row(&self) -> Value {
        row_of(&self.question, &self.picture)
    }

    fn score(&self, answer: &str) -> f64 {
        self.question.score(answer)
    }

    fn is_correct(&self, answer: &str) -> bool {
        self.question.is_correct(answer)
    }
}

impl Task for Counting {
    type Question = StoredQuestion;

    fn base(&self) -> BaseFiles {
        FILES
    }

    fn about(&self) -> &'static str {
        "quickstart: a Qwen2-VL of 0.6 million parameters learns to count shapes from rewards"
    }

    fn writes(&self) -> &'static [&'static str] {
        &[IMAGES]
    }

    fn questions(&self, run: &Path, seed: u64) -> Result<Questions<StoredQuestion>, TrainError> {
        let folder = run.join(IMAGES);
        fs::create_dir_all(&folder).map_err(WriteError::at(&folder))?;
        let of = |seed: u64, count: usize, split: Split, name: &str| -> Result<Vec<_>, TrainError> {
            let stored = |index: usize| {
                let question = counting_question(seed, index as u64, split);
                let picture = format!("{IMAGES}/{name}-{:04}.png", index + 1);
                write_atomically(&run.join(&picture), &png_of(&question)?)?;
                Ok(StoredQuestion { question, run: run.to_owned(), picture })
            };
            (0..count).map(stored).collect()
        };
        Ok(Questions {
            held_out: of(1, self.num_held_out, Split::HeldOut, "held-out")?,
            training: of(seed, self.num_questions, Split::Train, "train")?,
        })
    }
}

/// The picture's PNG file.
pub(crate) fn png_of(question: &CountingQuestion) -> Result<Vec<u8>, TrainError> {
    let failed = |error| TrainError::io(Path::new(IMAGES), io::Error::other(error));
    question.scene.draw().to_png().map_err(failed)
}

/// The prompt of a row whose picture is at a path or data URI.
pub(crate) fn row_of(question: &CountingQuestion, image: &str) -> Value {
    json!([{ "role": "user", "content": [{ "type": "image", "image": image }, { "type": "text", "text": question.text() }] }])
}

/// The quickstart's recipe, overridden by the user's settings.
///
/// # Errors
/// An unknown setting, or an invalid value.
pub fn recipe(settings: &[(String, String)]) -> Result<Recipe, TrainError> {
    let defaults = [
        ("objective", "nca"),
        ("learning_rate", "2e-4"),
        ("per_device_train_batch_size", "16"),
        ("num_train_epochs", "2"),
    ];
    recipe_of(&defaults, own_settings, settings)
}

/// Settings that suit an objective on this task better than its defaults: those of the word problems.
fn own_settings(name: &str) -> &'static [(&'static str, &'static str)] {
    match name {
        "nca" => &[("objective.beta", "1"), ("objective.alpha", "0.15")],
        "infonca" => &[("objective.beta", "1"), ("objective.alpha", "0.33"), ("learning_rate", "1e-4")],
        "dpo" => &[("objective.beta", "0.3")],
        _ => &[],
    }
}

/// `runs/images-NAME`, or the first of `-2`, `-3`, … that holds no run yet.
pub fn free_folder(objective: &str) -> PathBuf {
    free_folder_of("images", objective)
}
