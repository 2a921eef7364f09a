//! `collimate quickstart-verifier`: the quickstart's verifier as a reward program.

use std::io::BufRead;

use collimate_quickstart::verifier::score_answer;
use serde::Deserialize;

use crate::error::CliError;
use crate::io::Io;

/// Score responses to word problems: an example of a program for `collimate reward`
///
/// Reads lines with "response", "answer" and "steps", the fields that `collimate quickstart-task` writes and `collimate reward`
/// passes on, and prints a number in [0, 1] for each.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  collimate reward --command 'collimate quickstart-verifier' --data samples.jsonl --output rewards.jsonl"
)]
pub(crate) struct Args {}

#[derive(Deserialize)]
struct Request {
    response: String,
    answer: i64,
    steps: Vec<i64>,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        for (number, line) in std::io::stdin().lock().lines().enumerate() {
            let line = line.map_err(CliError::read("standard input".as_ref()))?;
            let request: Request = serde_json::from_str(&line).map_err(|error| {
                CliError::usage(format!("standard input:{}: expected response, answer and steps: {error}", number + 1))
            })?;
            io.line(format_args!("{}", score_answer(&request.steps, request.answer, &request.response)))?;
            io.out.flush().map_err(|source| CliError::Output { source })?;
        }
        Ok(())
    }
}
