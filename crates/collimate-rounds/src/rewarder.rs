//! Rewards from the user's own program: one line of JSON per response goes in, one score per line comes out.
//!
//! ```text
//! words    splits a command line into words, without a shell
//! rows     a row with its responses, as requests and with their rewards
//! requests the rows of a file, and the responses that a worker is asked about
//! answer   parses what the program printed
//! process  one process, with pipes that cannot block each other
//! worker   a share of the rows, and what to do when a process fails
//! job      runs several workers over a file, keeping its order
//! ```

mod answer;
mod error;
mod job;
mod process;
mod requests;
mod rows;
mod words;
mod worker;

use std::str::FromStr;
use std::time::Duration;

pub use error::{Failure, RewardError};
pub use job::{RewardSummary, ScoredRow, reward_rows};
pub use requests::RewardRows;
pub use words::ProgramCommand;

/// How to run a reward program.
#[derive(Debug, Clone)]
pub struct RewardOptions {
    /// The program and its arguments.
    pub command: ProgramCommand,
    /// Processes to run at once.
    pub workers: usize,
    /// Longest wait for the next answer; `None` for no limit.
    pub timeout: Option<Duration>,
    /// What to do when the program gives no score.
    pub on_failure: OnFailure,
}

/// What to do with a response that the program gives no score for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OnFailure {
    /// Stop with an error.
    Stop,
    /// Drop the response and count it; a row left with fewer than two responses is dropped too.
    Skip,
    /// Give it this reward.
    Reward(f64),
}

impl FromStr for OnFailure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "stop" => Ok(Self::Stop),
            "skip" => Ok(Self::Skip),
            number => match number.parse::<f64>() {
                Ok(reward) if reward.is_finite() => Ok(Self::Reward(reward)),
                _ => Err("expected stop, skip or a number".to_owned()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("stop", Ok(OnFailure::Stop))]
    #[case("skip", Ok(OnFailure::Skip))]
    #[case("-1.5", Ok(OnFailure::Reward(-1.5)))]
    #[case("nan", Err(()))]
    #[case("never", Err(()))]
    fn failures_are_dealt_with_as_named(#[case] text: &str, #[case] expected: Result<OnFailure, ()>) {
        assert_eq!(text.parse::<OnFailure>().map_err(|_| ()), expected);
    }
}
