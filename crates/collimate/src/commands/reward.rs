//! `collimate reward`: a program of the user's gives each response its reward.

use std::path::PathBuf;
use std::time::Duration;

use collimate_rounds::{OnFailure, ProgramCommand, RewardOptions, read_rows, reward_rows};
use collimate_train::StopFlag;

use super::data_options::parse;
use crate::error::CliError;
use crate::inputs::open_rows;
use crate::io::{Io, Rows};

/// Let a program give each response its reward
///
/// Reads rows with "prompt" and "responses": [{"content": …}] and writes them with a "reward" in each response. The
/// program is started once a worker. It reads a line of JSON a response from its standard input, {"index",
/// "response_index", "prompt", "response"} and all other fields of the row, and prints a line for each in the same order:
/// a number, or {"reward": NUMBER, "scores": {NAME: NUMBER}}. A higher reward is better. When its input ends it has to end
/// too, with exit code 0.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  collimate reward --command 'python3 verify.py --strict' --data samples.jsonl --output rewards.jsonl"
)]
pub(crate) struct Args {
    #[command(flatten)]
    program: ProgramOptions,
    /// File of prompts with responses, one row of JSON a line, or Parquet; a folder or pattern of such; - for
    /// standard input
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// File to write; - for standard output
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
}

/// Which program gives rewards, and how it is dealt with.
#[derive(Debug, clap::Args)]
pub(crate) struct ProgramOptions {
    /// Program and arguments, words apart by spaces; quotes and backslashes keep spaces as in a shell, but no shell runs:
    /// $NAME, *, | and > are plain text
    #[arg(long, value_name = "'PROGRAM ARGS'")]
    command: String,
    /// Give the command to the system's shell (sh -c, on Windows cmd /C)
    #[arg(long)]
    shell: bool,
    /// Processes at once; row i goes to process i mod N, and the output keeps the file's order
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: usize,
    /// Longest wait for the next answer of a process, its start included; without it, no limit. The program must flush
    /// each line then
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
    /// Where the program dies, prints no number or is too slow: stop with an error, skip the response, or this reward
    #[arg(long, value_name = "stop|skip|VALUE", default_value = "stop", value_parser = parse::<OnFailure>,
          allow_negative_numbers = true)]
    on_failure: OnFailure,
}

impl ProgramOptions {
    pub(crate) fn resolve(&self) -> Result<RewardOptions, CliError> {
        let command = ProgramCommand::new(&self.command, self.shell);
        let command = command.map_err(|problem| CliError::usage(format!("--command {problem}")))?;
        if self.workers == 0 {
            return Err(CliError::usage("--workers must be at least 1"));
        }
        let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).ok().filter(|limit| !limit.is_zero());
        let timeout = match self.timeout {
            Some(given) => Some(seconds(given).ok_or_else(|| CliError::usage("--timeout must be above 0"))?),
            None => None,
        };
        Ok(RewardOptions { command, workers: self.workers, timeout, on_failure: self.on_failure })
    }

    /// What decides about the rewards, for comparing runs.
    pub(crate) fn text(&self) -> String {
        let shell = if self.shell { " (shell)" } else { "" };
        format!("{}{shell}, on failure {:?}", self.command, self.on_failure)
    }
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        let options = self.program.resolve()?;
        let (name, rows) = open_rows(&self.data, io)?;
        let rows = read_rows(&name, rows)?;
        let mut out = Rows::create(&self.output)?;
        let rewarded = {
            let mut observer = io.observer(self.quiet);
            // Without a handler a signal ends the process, and the program's with it.
            reward_rows(rows, &options, (&StopFlag::default(), &mut *observer))?
        };
        let Some(rewarded) = rewarded else { return Ok(()) };
        for row in rewarded.rows(|_| true) {
            out.push(&row)?;
        }
        let num_rows = out.num_rows();
        out.commit(io)?;
        let summary = rewarded.summary();
        if let (Some(mean), Some(best)) = (summary.mean, summary.best) {
            let count = summary.num_responses;
            io.note(format_args!("{count} responses, mean reward {mean:.4}, mean of the best of a row {best:.4}"));
        }
        if summary.num_failed > 0 {
            let left_out = summary.num_rows - num_rows;
            io.note(format_args!("the program failed for {} responses; {left_out} rows left out", summary.num_failed));
        }
        Ok(())
    }
}
