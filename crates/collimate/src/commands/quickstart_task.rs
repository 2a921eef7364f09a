//! `collimate quickstart-task`: the quickstart's base model and problems as files.

use std::path::{Path, PathBuf};

use collimate_data::RowWriter;
use collimate_quickstart::assets::write_base;
use collimate_quickstart::pipeline::QuickstartSize;
use collimate_quickstart::problems::{Split, distinct_problems};
use serde_json::json;

use super::overwrite::Overwrite;
use crate::error::CliError;
use crate::io::Io;

/// Write the quickstart's base model and problems, to try sample, reward and loop with
///
/// DIR/base is the model. DIR/prompts.jsonl and DIR/held-out.jsonl have one problem per line: its "prompt", and for a verifier
/// the "answer" and the results of the "steps".
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  collimate quickstart-task --output runs/task")]
pub(crate) struct Args {
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Number of problems to train on
    #[arg(long, value_name = "N", default_value_t = QuickstartSize::default().num_problems)]
    problems: usize,
    /// Number of held-out problems
    #[arg(long, value_name = "N", default_value_t = QuickstartSize::default().num_held_out)]
    held_out: usize,
    /// Seed of the problems to train on
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    overwrite: Overwrite,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        let out = &self.output;
        let (prompts, held_out) = (out.join("prompts.jsonl"), out.join("held-out.jsonl"));
        for path in [&prompts, &held_out] {
            self.overwrite.check(path, &[])?;
        }
        write_base(&out.join("base"))?;
        write_problems(&prompts, self.seed, Split::Train, self.problems)?;
        write_problems(&held_out, 1, Split::HeldOut, self.held_out)?;
        io.line(format_args!("{}", out.display()))
    }
}

fn write_problems(path: &Path, seed: u64, split: Split, count: usize) -> Result<(), CliError> {
    let mut rows = RowWriter::create(path)?;
    for problem in distinct_problems(seed, split).take(count) {
        rows.push(&json!({"prompt": problem.prompt, "answer": problem.answer, "steps": problem.steps}))?;
    }
    Ok(rows.commit()?)
}
