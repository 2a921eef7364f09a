//! `collimate data convert`: converts between layouts.

use std::path::PathBuf;

use collimate_data::{ConvertTo, Layout, convert, counted, either};
use collimate_rewards::PairRule;

use super::check::listed;
use crate::commands::data_options::{DataOptions, parse};
use crate::commands::overwrite::Overwrite;
use crate::error::CliError;
use crate::io::Io;

/// Convert data to another layout, deriving rewards where needed
///
/// Rows of any form are read if you name their fields: --prompt-field, --response-field and --reward-field, or --chosen-field
/// and --rejected-field. The file appears whole or not at all.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  collimate data convert nectar.jsonl --reward-from rank --to collimate --output rewards.jsonl\n  \
                  collimate data convert rows.jsonl --prompt-field question --response-field 'answers.*.text' --reward-field \
                  'answers.*.score' --output rewards.jsonl"
)]
pub(crate) struct Args {
    /// Files of groups, folders or patterns
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// File to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    overwrite: Overwrite,
    /// Layout to write: collimate, preference or ranked_set
    #[arg(long, value_name = "NAME", default_value = "collimate", value_parser = parse::<Layout>)]
    to: Layout,
    /// Which pairs to write in the preference layout: best_vs_worst, best_vs_random[:SEED], all_pairs[:MARGIN], best_vs_mean
    #[arg(long, value_name = "RULE", default_value = "best_vs_worst", value_parser = parse::<PairRule>)]
    pairs: PairRule,
    #[command(flatten)]
    read: DataOptions,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        let to = ConvertTo::new(self.to, self.pairs)?;
        self.overwrite.check(&self.output, &self.files)?;
        let mut reader = self.read.open(&self.files, 2, io)?;
        if reader.is_demonstrations() && to == ConvertTo::Collimate {
            reader.accept_single_responses();
        }
        let report = convert(&mut reader, &self.output, to)?;
        io.note(format_args!("{}: {}", listed(&self.files), reader.describe()));
        for line in reader.counts().labels.lines(self.read.label_conflicts) {
            io.note(format_args!("{line}"));
        }
        let (num_skipped, num_left_out) = (reader.counts().num_skipped(), reader.counts().num_left_out());
        if num_skipped > 0 {
            io.note(format_args!(
                "{} cannot be used and {} skipped",
                counted(num_skipped, "row"),
                either(num_skipped, "was", "were")
            ));
        }
        if num_left_out > 0 {
            io.note(format_args!(
                "{} of other rows cannot be used and {} left out",
                counted(num_left_out, "response"),
                either(num_left_out, "was", "were")
            ));
        }
        if report.num_without_pairs > 0 {
            io.note(format_args!(
                "{} gave no pair: {} rewards are too close",
                counted(report.num_without_pairs, "group"),
                either(report.num_without_pairs, "its", "their")
            ));
        }
        io.line(format_args!(
            "{}: {} of {}",
            self.output.display(),
            counted(report.num_rows, "row"),
            counted(report.num_groups, "group")
        ))
    }
}
