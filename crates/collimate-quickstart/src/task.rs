//! What a built-in task is: questions with a verifier, and a base model that answers some of them.

use std::path::Path;

use collimate_data::Prompt;
use collimate_train::TrainError;
use serde_json::Value;

use crate::base::BaseFiles;

/// A question whose answers can be verified.
pub trait Question {
    /// What it is called: `problem`.
    const NAME: &'static str;

    /// Longest answer, in tokens.
    const MAX_NEW_TOKENS: usize;

    /// The question as the model is asked; paths are relative to the working folder.
    fn prompt(&self) -> Prompt;

    /// The question as a row of data has it; paths are relative to the run's folder.
    fn row(&self) -> Value;

    /// The reward of an answer, in [0, 1].
    fn score(&self, answer: &str) -> f64;

    /// Whether an answer counts as right.
    fn is_correct(&self, answer: &str) -> bool;
}

/// The questions of a run.
#[derive(Debug, Clone)]
pub struct Questions<Q> {
    /// To measure accuracy on.
    pub held_out: Vec<Q>,
    /// To train on.
    pub training: Vec<Q>,
}

/// A built-in task.
pub trait Task {
    /// What is asked.
    type Question: Question;

    /// The base model.
    fn base(&self) -> BaseFiles;

    /// What a quickstart of it does, in a line.
    fn about(&self) -> &'static str;

    /// Names in the run's folder that [`Task::questions`] writes.
    fn writes(&self) -> &'static [&'static str] {
        &[]
    }

    /// Makes the questions, and writes what belongs to them into the run's folder.
    ///
    /// # Errors
    /// A file cannot be written.
    fn questions(&self, run: &Path, seed: u64) -> Result<Questions<Self::Question>, TrainError>;
}
