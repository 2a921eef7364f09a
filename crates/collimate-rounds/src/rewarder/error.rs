//! Failures of a reward program.

use std::fmt::Write;
use std::path::PathBuf;

use collimate_data::DataError;
use collimate_files::WriteError;
use thiserror::Error;

/// Why a reward program gave no rewards.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RewardError {
    /// The program cannot be started.
    #[error("the reward program `{program}` cannot be started: {source}")]
    Start {
        /// The command as given.
        program: String,
        /// The operating system's error.
        source: std::io::Error,
    },

    /// A row cannot be used or read back.
    #[error(transparent)]
    Rows(#[from] DataError),

    /// The rows cannot be kept on disk.
    #[error(transparent)]
    Store(#[from] WriteError),

    /// The program gave no score for a response.
    #[error("{}:{line}, response {response}: {failure}", path.display())]
    Failed {
        /// The file of responses.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// Index of the response in its row, from 0.
        response: usize,
        /// What happened.
        failure: Box<Failure>,
    },
}

/// What a reward program did instead of giving a score.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// What happened, as a sentence whose subject is the program.
    pub what: String,
    /// What it printed, shortened; `None` if nothing.
    pub printed: Option<String>,
    /// Its exit status in the system's words; `None` if it was still running.
    pub status: Option<String>,
    /// The end of its standard error.
    pub stderr: String,
    /// Whether answers can no longer be matched to responses, so that none may be used.
    pub unmatched: bool,
}

impl Failure {
    /// A failure that concerns one response.
    pub(super) fn of_response(what: impl Into<String>) -> Self {
        Self { what: what.into(), printed: None, status: None, stderr: String::new(), unmatched: false }
    }

    /// A failure that makes all answers unusable.
    pub(super) fn of_all(what: impl Into<String>) -> Self {
        Self { unmatched: true, ..Self::of_response(what) }
    }

    /// Adds what was printed.
    pub(super) fn printing(self, line: &str) -> Self {
        Self { printed: Some(shortened(line)), ..self }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the reward program {}", self.what)?;
        if let Some(printed) = &self.printed {
            write!(f, "\n  it printed: {printed}")?;
        }
        if let Some(status) = &self.status {
            write!(f, "\n  it ended with {status}")?;
        }
        let stderr = self.stderr.trim_end();
        if !stderr.is_empty() {
            f.write_str("\n  the end of its standard error:")?;
            for line in stderr.lines() {
                write!(f, "\n    {line}")?;
            }
        }
        Ok(())
    }
}

/// The first 200 characters of a line.
fn shortened(line: &str) -> String {
    const MOST: usize = 200;
    let mut text: String = line.chars().take(MOST).collect();
    if line.chars().nth(MOST).is_some() {
        // Writing to a string does not fail.
        let _ = write!(text, "… ({} bytes)", line.len());
    }
    text
}
