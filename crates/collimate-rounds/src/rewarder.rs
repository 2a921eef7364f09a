//! Rewards from a program of the user's: a line of JSON a response goes in, a score a line comes out.
//!
//! ```text
//! words    a command line as words, without a shell
//! rows     the responses of a file, as the program is asked about them
//! answer   what the program printed, as a score
//! process  one process of it: pipes that never wait for each other
//! worker   a process's share of the rows, and what happens where it fails
//! job      all of a file by several workers, in its order
//! ```

mod answer;
mod error;
mod job;
mod process;
mod rows;
mod words;
mod worker;

use std::str::FromStr;
use std::time::Duration;

pub use error::{Failure, RewardError};
pub use job::{RewardSummary, Rewarded, reward_rows};
pub use rows::{RewardRow, read_rows};
pub use words::ProgramCommand;

/// How rewards are asked for.
#[derive(Debug, Clone)]
pub struct RewardOptions {
    /// The program and its arguments.
    pub command: ProgramCommand,
    /// Processes of the program.
    pub workers: usize,
    /// Longest wait for the next answer.
    pub timeout: Option<Duration>,
    /// What to do where the program gives no score.
    pub on_failure: OnFailure,
}

/// What becomes of a response that the program has no score for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OnFailure {
    /// The command ends with the failure as its error.
    Stop,
    /// The response is left out and counted, and a row with fewer than two others with it.
    Skip,
    /// The response gets this reward.
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
