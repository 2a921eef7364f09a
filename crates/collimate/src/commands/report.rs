//! `collimate report`: a run's figures on a page.

use std::path::PathBuf;

use collimate_train::report::write_report;

use crate::error::CliError;
use crate::io::Io;

/// Write report.html of a run's folder from its metrics and recipe
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  collimate report runs/nca")]
pub(crate) struct Args {
    /// Folder of the run
    dir: PathBuf,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        for name in ["metrics.jsonl", "recipe.yaml"] {
            if !self.dir.join(name).is_file() {
                return Err(CliError::Usage {
                    problem: format!("{} holds no {name}", self.dir.display()),
                    help: Some("give the folder that `collimate train` wrote (--output)".to_owned()),
                });
            }
        }
        let path = write_report(&self.dir)?;
        io.line(format_args!("{}", path.display()))
    }
}
