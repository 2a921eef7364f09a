//! `collimate dial`: the trained adapter at several strengths.

use std::path::{Path, PathBuf};

use collimate_dial::{DialOptions, check, dial, stage_merge_at};
use collimate_files::{WriteError, write_atomically};
use collimate_finished::TrainedRun;
use collimate_peft::MergeOptions;
use collimate_train::StopFlag;

use super::merge;
use super::overwrite::{Overwrite, check_folder};
use super::report;
use crate::error::CliError;
use crate::io::Io;

/// Measure a run's adapter at strengths between nothing and more than it was trained to
///
/// A strength multiplies the scale of the adapter: 0 is the model without it, 1 as it was trained. For each, on the run's
/// held-out data: accuracy and margin of implicit rewards, log-probs of the chosen responses; and of answers drawn to some of
/// the prompts: the KL divergence from the model without the adapter (Schulman's estimator k3), their length, their text.
/// Writes dial.jsonl and dial.html. --merge-at S writes the merged model of that strength instead of measuring.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  collimate dial runs/nca\n  collimate dial runs/nca --merge-at 0.75 --merged models/aligned"
)]
pub(crate) struct Args {
    /// Folder of a finished run that trained an adapter
    run: PathBuf,
    /// Strengths to measure
    #[arg(
        long,
        value_name = "S,S,...",
        value_delimiter = ',',
        default_values_t = [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
    )]
    strengths: Vec<f64>,
    /// Held-out prompts to draw an answer to at each strength; 0 for none, and then no KL and no length
    #[arg(long, value_name = "N", default_value_t = 32)]
    samples: usize,
    /// Longest answer in tokens [default: the recipe's sample_max_new_tokens]
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// Seed of the prompts and of the draws, the same at every strength
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// Folder to write dial.jsonl and dial.html to [default: that of the run]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    overwrite: Overwrite,
    /// Write the model with the adapter merged at this strength, and measure nothing
    #[arg(long, value_name = "S", requires = "merged")]
    merge_at: Option<f64>,
    /// Folder for the merged model; nothing may be there
    #[arg(long, value_name = "DIR", requires = "merge_at")]
    merged: Option<PathBuf>,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        self.check_values()?;
        report::check(&self.run)?;
        let run = TrainedRun::read(&self.run, &io.hub)?;
        if let (Some(strength), Some(output)) = (self.merge_at, &self.merged) {
            return merge_at(&run, strength, output, io);
        }
        check(&run)?;
        let folder = self.output.as_deref().unwrap_or(&self.run);
        check_folder(folder)?;
        let (rows, page) = (folder.join("dial.jsonl"), folder.join("dial.html"));
        self.overwrite.check(&rows, &[])?;
        self.overwrite.check(&page, &[])?;
        let options = DialOptions {
            strengths: self.strengths,
            num_samples: self.samples,
            max_new_tokens: self.max_new_tokens,
            seed: self.seed,
        };
        let measured = {
            let mut observer = io.observer(self.quiet);
            dial(&run, &options, &StopFlag::default(), &mut *observer)?
        };
        std::fs::create_dir_all(folder).map_err(WriteError::at(folder))?;
        let lines: String = measured.rows().iter().map(|row| format!("{row}\n")).collect();
        write_atomically(&rows, lines.as_bytes())?;
        write_atomically(&page, measured.page().as_bytes())?;
        measured.lines().iter().try_for_each(|line| io.line(format_args!("{line}")))?;
        measured.caveats().iter().for_each(|caveat| io.note(format_args!("{caveat}")));
        io.line(format_args!("{}", page.display()))
    }

    /// Checks the options alone.
    fn check_values(&self) -> Result<(), CliError> {
        let is_strength = |value: &f64| value.is_finite() && *value >= 0.0;
        if let Some(value) = self.strengths.iter().chain(&self.merge_at).find(|value| !is_strength(value)) {
            return Err(CliError::usage(format!("{value} is no strength: a strength is finite and at least 0")));
        }
        match self.max_new_tokens {
            Some(0) => Err(CliError::usage("--max-new-tokens must be at least 1")),
            _ => Ok(()),
        }
    }
}

fn merge_at(run: &TrainedRun, strength: f64, output: &Path, io: &mut Io<'_>) -> Result<(), CliError> {
    let merged = stage_merge_at(run, strength, output, MergeOptions::default())?;
    merge::commit(merged, &run.model, io)?;
    io.line(format_args!("{}", output.display()))
}
