//! The option that allows to replace an output.

use std::path::{Path, PathBuf};

use collimate_data::data_files;
use collimate_files::check_output;

use super::model_options::ModelOptions;
use crate::error::CliError;

/// Whether an existing output is replaced.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Overwrite {
    /// Replace the output if it exists; never a file that is read
    #[arg(long)]
    force: bool,
}

impl Overwrite {
    /// Whether an existing output may be replaced.
    pub(crate) fn is_forced(self) -> bool {
        self.force
    }

    /// Checks, before any work, that the output is free or may be replaced; `-` is standard output. `inputs` are names of
    /// data: files, folders or patterns.
    ///
    /// # Errors
    /// The output is taken.
    pub(crate) fn check(self, output: &Path, inputs: &[PathBuf]) -> Result<(), CliError> {
        self.check_files(output, inputs, Vec::new())
    }

    /// Like [`check`](Self::check), for a verb that reads a model as well: none of its files is replaced either.
    ///
    /// # Errors
    /// The output is taken.
    pub(crate) fn check_all(self, output: &Path, inputs: &[PathBuf], model: &ModelOptions) -> Result<(), CliError> {
        self.check_files(output, inputs, model.files())
    }

    fn check_files(self, output: &Path, inputs: &[PathBuf], mut files: Vec<PathBuf>) -> Result<(), CliError> {
        if output == Path::new("-") {
            return Ok(());
        }
        files.extend(inputs.iter().filter_map(|name| data_files(name).ok()).flatten());
        Ok(check_output(output, files.iter().map(PathBuf::as_path), self.force)?)
    }
}

/// Checks, before any work, that what is to hold the output is a folder, or not there yet.
///
/// # Errors
/// It is a file.
pub(crate) fn check_folder(folder: &Path) -> Result<(), CliError> {
    match folder.exists() && !folder.is_dir() {
        true => Err(CliError::usage(format!("{}: the output needs a folder, and this is a file", folder.display()))),
        false => Ok(()),
    }
}
