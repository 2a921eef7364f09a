//! `collimate reward`: the user's program scores each response.

use collimate_data::counted;
use std::path::PathBuf;
use std::time::Duration;

use collimate_rounds::{OnFailure, ProgramCommand, RewardOptions, RewardRows, reward_rows};
use collimate_train::{RunContext, StopFlag};

use super::data_options::parse;
use super::overwrite::Overwrite;
use crate::error::CliError;
use crate::inputs::open_rows;
use crate::io::{Io, Rows, scratch_beside};

/// Most processes of a reward program.
const MAX_WORKERS: usize = 1024;

/// Score responses with a program of your own
///
/// Reads rows with "prompt" and "responses": [{"content": …}] and writes them with a "reward" in each response. The program
/// is started once per worker. It reads one line of JSON per response from standard input, {"index", "response_index",
/// "prompt", "response"} and all other fields of the row, and prints one line for each in the same order: a number, or
/// {"reward": NUMBER, "scores": {NAME: NUMBER}}. Higher is better. When its input ends it must exit with code 0.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  collimate reward --command 'python3 verify.py --strict' --data samples.jsonl --output rewards.jsonl"
)]
pub(crate) struct Args {
    #[command(flatten)]
    program: ProgramOptions,
    /// File of prompts with responses, JSON Lines or Parquet; or a folder, a pattern, or - for standard input
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// File to write; - for standard output
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    overwrite: Overwrite,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
}

/// Which reward program to run, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct ProgramOptions {
    /// Program and arguments, separated by spaces; quotes and backslashes work as in a shell, but no shell runs: $NAME, *, |
    /// and > are plain text
    #[arg(long, value_name = "'PROGRAM ARGS'")]
    command: String,
    #[command(flatten)]
    manner: ProgramManner,
}

/// How to run a reward program.
#[derive(Debug, clap::Args)]
pub(crate) struct ProgramManner {
    /// Run the command with the system's shell (sh -c, on Windows cmd /C)
    #[arg(long)]
    shell: bool,
    /// Processes to run at once; row i goes to process i mod N, and the output keeps the file's order
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: usize,
    /// Longest wait for a process's next answer, including its start [default: no limit]; the program must then flush every
    /// line
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
    /// When the program dies, prints no number or is too slow: stop with an error, skip the response, or use this reward
    #[arg(long, value_name = "stop|skip|VALUE", default_value = "stop", value_parser = parse::<OnFailure>,
          allow_negative_numbers = true)]
    on_failure: OnFailure,
}

impl ProgramOptions {
    pub(crate) fn resolve(&self) -> Result<RewardOptions, CliError> {
        self.manner.resolve(&self.command)
    }

    /// The settings that rewards depend on, to compare runs.
    pub(crate) fn text(&self) -> String {
        let shell = if self.manner.shell { " (shell)" } else { "" };
        format!("{}{shell}, on failure {:?}", self.command, self.manner.on_failure)
    }
}

impl ProgramManner {
    /// Checks the options for this command.
    pub(crate) fn resolve(&self, command: &str) -> Result<RewardOptions, CliError> {
        let command = ProgramCommand::new(command, self.shell);
        let command = command.map_err(|problem| CliError::usage(format!("--command {problem}")))?;
        command.check()?;
        if self.workers == 0 {
            return Err(CliError::usage("--workers must be at least 1"));
        }
        if self.workers > MAX_WORKERS {
            return Err(CliError::usage(format!("--workers must be at most {MAX_WORKERS}")));
        }
        let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).ok().filter(|limit| !limit.is_zero());
        let timeout = match self.timeout {
            Some(given) => Some(seconds(given).ok_or_else(|| CliError::usage("--timeout must be above 0"))?),
            None => None,
        };
        Ok(RewardOptions { command, workers: self.workers, timeout, on_failure: self.on_failure })
    }
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        let options = self.program.resolve()?;
        self.overwrite.check(&self.output, std::slice::from_ref(&self.data))?;
        let mut out = Rows::create(&self.output)?;
        let (name, rows) = open_rows(&self.data, io)?;
        let rows = RewardRows::read(&name, rows, &scratch_beside(&self.output))?;
        let summary = {
            let mut observer = io.observer(self.quiet);
            // Without a handler a signal ends this process, and the program with it.
            let never = StopFlag::default();
            reward_rows(rows, &options, &mut RunContext::new(&never, &mut *observer), &mut |row| {
                row.kept(|_| true).map_or(Ok(()), |row| out.push(&row))
            })?
        };
        let Some(summary) = summary else { return Ok(()) };
        let num_rows = out.num_rows();
        out.commit(io)?;
        if let (Some(mean), Some(best)) = (summary.mean, summary.best) {
            let count = summary.num_responses;
            io.note(format_args!(
                "{}, mean reward {mean:.4}, mean of the best of a row {best:.4}",
                counted(count, "response")
            ));
        }
        if summary.num_failed > 0 {
            let left_out = summary.num_rows - num_rows;
            io.note(format_args!(
                "the program failed for {}; {} left out",
                counted(summary.num_failed, "response"),
                counted(left_out, "row")
            ));
        }
        Ok(())
    }
}
