//! Makes training data from prompts, and trains on it in rounds.
//!
//! ```text
//! sampling     prompts of a file, and responses drawn to them
//! rewarder     a program of the user's scores each response
//! stored_rows  keeps rows on disk, so that memory does not grow with them
//! rounds       sample, reward, train; then again from the result
//! ```
//!
//! Start with [`reward_rows`], which runs a reward program over a file, and [`run_rounds`], which runs the loop. Every
//! stage leaves a file when it is done, so an interrupted loop resumes where it stopped.
//!
//! Knows nothing of the command line: arguments, signals and terminals are the caller's.
//!
//! ```
//! use collimate_rounds::ProgramCommand;
//!
//! // Quotes group words as in a shell, but no shell runs.
//! let command = ProgramCommand::new("python3 verify.py --name 'two words'", false)?;
//! assert_eq!(command.command().get_args().last().unwrap(), "two words");
//! # Ok::<(), String>(())
//! ```

mod error;
mod rewarder;
mod rounds;
mod sampling;
mod stored_rows;

pub use error::RoundsError;
pub use rewarder::{
    Failure, OnFailure, ProgramCommand, RewardError, RewardOptions, RewardRows, RewardSummary, ScoredRow, reward_rows,
};
pub use rounds::{LoopOptions, RoundReference, RoundRow, run_rounds, table};
pub use sampling::{Draws, PromptRows, encode_prompt};
