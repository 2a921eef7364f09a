//! `collimate explain`: which training prompts move a held-out answer.

use std::path::PathBuf;

use collimate_explain::{AnswerChoice, ExplainOptions, check, explain};
use collimate_files::{WriteError, write_atomically};
use collimate_finished::TrainedRun;
use collimate_train::StopFlag;

use super::overwrite::{Overwrite, check_folder};
use super::report;
use crate::error::CliError;
use crate::io::Io;

/// Show which training prompts push a held-out answer up or down
///
/// For each training prompt: minus the scalar product of two gradients by the adapter at the end of the run, that of the
/// answer's log-prob and that of the prompt's loss. It is what a plain gradient step on that prompt alone adds to the answer's
/// log-prob, by learning rate; above 0 the prompt pushes the answer up. Writes explain.jsonl, with every prompt, and
/// explain.html. A prompt takes as long as in a step of training; in memory is one gradient beside those of the answers.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  collimate explain runs/nca --answer 7 --limit 200")]
pub(crate) struct Args {
    /// Folder of a finished run that trained an adapter
    run: PathBuf,
    /// Held-out answer to explain: the index of its prompt in the held-out data, from 0; ROW:K for its response K, from 0, in
    /// place of the one with the highest reward. May be given several times
    #[arg(long = "answer", value_name = "ROW[:K]", required = true)]
    answers: Vec<AnswerChoice>,
    /// Look at so many training prompts, drawn by the seed, in place of all
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Seed of --limit
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// Prompts to show in either direction
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
    /// Folder to write explain.jsonl and explain.html to [default: that of the run]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    overwrite: Overwrite,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        if self.limit == Some(0) || self.top == 0 {
            return Err(CliError::usage("--limit and --top must be at least 1"));
        }
        report::check(&self.run)?;
        let run = TrainedRun::read(&self.run, &io.hub)?;
        check(&run)?;
        let folder = self.output.as_deref().unwrap_or(&self.run);
        check_folder(folder)?;
        let (rows, page) = (folder.join("explain.jsonl"), folder.join("explain.html"));
        self.overwrite.check(&rows, &[])?;
        self.overwrite.check(&page, &[])?;
        let options = ExplainOptions { answers: self.answers, limit: self.limit, seed: self.seed, num_shown: self.top };
        let explained = {
            let mut observer = io.observer(self.quiet);
            explain(&run, &options, &StopFlag::default(), &mut *observer)?
        };
        std::fs::create_dir_all(folder).map_err(WriteError::at(folder))?;
        let lines: String = explained.rows().iter().map(|row| format!("{row}\n")).collect();
        write_atomically(&rows, lines.as_bytes())?;
        write_atomically(&page, explained.page().as_bytes())?;
        explained.lines().iter().try_for_each(|line| io.line(format_args!("{line}")))?;
        io.line(format_args!("{}", page.display()))
    }
}
