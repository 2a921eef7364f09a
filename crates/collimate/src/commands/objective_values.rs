//! `collimate objective-values`: losses and gradients, to compare with other implementations.

use std::io;
use std::path::PathBuf;

use collimate_files::read_text;
use collimate_objective::ObjectiveError;
use collimate_objective::values::evaluate_rows;
use serde_json::Value;

use crate::error::CliError;
use crate::io::Io;

/// Size limit of the file. All rows are in memory, with their gradients.
const MAX_BYTES: u64 = 16 << 20;

/// Print the loss and gradient of objectives for given log-probs
///
/// Reads rows {"objective", "params", "policy_logps", "reference_logps", "rewards", "lengths"}, as a JSON array or one after
/// another, and prints each with "loss", "mean_loss", "grad_of_mean" and "implicit_rewards" in the same form.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  collimate objective-values rows.json > values.json")]
pub(crate) struct Args {
    /// File of rows
    file: PathBuf,
    /// Print a JSON array whatever form the file has
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        let text = read_text(&self.file, MAX_BYTES).map_err(CliError::read(&self.file))?;
        let rows = evaluate_rows(&text).map_err(|error| match error {
            // The help for it names the objectives that there are.
            unknown @ ObjectiveError::UnknownObjective { .. } => CliError::Objective(unknown),
            other => CliError::read(&self.file)(io::Error::other(other)),
        })?;
        if self.json || text.trim_start().starts_with('[') {
            return io.line(format_args!("{}", Value::Array(rows)));
        }
        rows.iter().try_for_each(|row| io.line(format_args!("{row}")))
    }
}
