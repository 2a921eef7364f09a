//! `collimate report`: a run's page, or a comparison of several runs.

use std::io::Read;
use std::path::{Path, PathBuf};

use collimate_files::open_plain;
use collimate_report::{write_comparison, write_events, write_report};

use super::overwrite::Overwrite;
use crate::error::CliError;
use crate::io::Io;

/// Write a run's report.html from its metrics and recipe, or compare several runs
///
/// The page of one run goes into its folder, as at the end of training. A comparison has all runs in each chart, the keys in
/// which their recipes differ, and their final metrics side by side.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  collimate report runs/nca\n  collimate report runs/nca runs/dpo --output nca-dpo.html\n  \
                        collimate report runs/nca --tensorboard && tensorboard --logdir runs"
)]
pub(crate) struct Args {
    /// Folder of a run; several for a comparison
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
    /// File for the comparison
    #[arg(long, value_name = "FILE", default_value = "comparison.html")]
    output: PathBuf,
    #[command(flatten)]
    overwrite: Overwrite,
    /// Also write TensorBoard event files into the runs' folders
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
                // An earlier comparison is made anew; anything else is not ours to replace.
                if !is_page(&self.output) {
                    self.overwrite.check(&self.output, &[])?;
                }
                write_comparison(several, &self.output)?;
                self.output
            }
        };
        io.line(format_args!("{}", page.display()))
    }
}

/// Whether a file is a page that this program wrote.
fn is_page(path: &Path) -> bool {
    let mut start = String::new();
    let read = open_plain(path).and_then(|file| file.take(1024).read_to_string(&mut start));
    read.is_ok() && start.starts_with("<!doctype html>") && start.contains("Content-Security-Policy")
}

/// Checks that a folder is that of a run.
pub(super) fn check(dir: &Path) -> Result<(), CliError> {
    match ["metrics.jsonl", "recipe.yaml"].into_iter().find(|name| !dir.join(name).is_file()) {
        None => Ok(()),
        Some(name) => Err(CliError::Usage {
            problem: format!("{} holds no {name}", dir.display()),
            help: Some("give the folder that `collimate train` wrote (--output)".to_owned()),
        }),
    }
}
