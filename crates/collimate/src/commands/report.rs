//! `collimate report`: a run's figures on a page, or those of several runs.

use std::path::{Path, PathBuf};

use collimate_report::{write_comparison, write_events, write_report};

use crate::error::CliError;
use crate::io::Io;

/// Write report.html of a run's folder from its metrics and recipe, or compare several runs
///
/// Of one run, the page goes into its folder, as at the end of training. Of several, it has the figures of all of them in
/// each chart, the keys in which their recipes differ, and the last figures beside one another.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  collimate report runs/nca\n  collimate report runs/nca runs/dpo --output nca-dpo.html\n  \
                        collimate report runs/nca --tensorboard && tensorboard --logdir runs"
)]
pub(crate) struct Args {
    /// Folder of a run; several are compared
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
    /// Page that compares several runs
    #[arg(long, value_name = "FILE", default_value = "comparison.html")]
    output: PathBuf,
    /// Write the figures as TensorBoard event files too, into the runs' folders
    #[arg(long)]
    tensorboard: bool,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        self.dirs.iter().try_for_each(|dir| check(dir))?;
        if self.tensorboard {
            for dir in &self.dirs {
                let path = write_events(dir)?;
                io.line(format_args!("{}", path.display()))?;
            }
        }
        let page = match self.dirs.as_slice() {
            [dir] => write_report(dir)?,
            several => {
                write_comparison(several, &self.output)?;
                self.output
            }
        };
        io.line(format_args!("{}", page.display()))
    }
}

fn check(dir: &Path) -> Result<(), CliError> {
    match ["metrics.jsonl", "recipe.yaml"].into_iter().find(|name| !dir.join(name).is_file()) {
        None => Ok(()),
        Some(name) => Err(CliError::Usage {
            problem: format!("{} holds no {name}", dir.display()),
            help: Some("give the folder that `collimate train` wrote (--output)".to_owned()),
        }),
    }
}
