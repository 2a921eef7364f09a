//! A command's streams.

use std::fmt::Arguments;
use std::io::Write;
use std::path::Path;

use collimate_data::RowWriter;
use collimate_hub::Hub;
use collimate_train::progress::{BarObserver, LineObserver, Observer, Silent};
use serde_json::Value;

use crate::error::CliError;
use crate::signals::Signals;

/// The streams of a command, and what they can display.
pub struct Io<'a> {
    /// Results.
    pub out: &'a mut (dyn Write + Send),
    /// Progress and errors.
    pub err: &'a mut (dyn Write + Send),
    /// Whether results may be coloured.
    pub out_color: bool,
    /// Whether errors may be coloured.
    pub err_color: bool,
    /// Whether errors go to a terminal.
    pub err_terminal: bool,
    /// Flags set by signal handlers.
    pub signals: Signals,
    /// Where to look up names that are not paths.
    pub hub: Hub,
}

impl Io<'_> {
    /// Prints a line of results.
    pub(crate) fn line(&mut self, text: Arguments<'_>) -> Result<(), CliError> {
        writeln!(self.out, "{text}").map_err(|source| CliError::Output { source })
    }

    /// Prints a value as pretty JSON.
    pub(crate) fn json(&mut self, value: &Value) -> Result<(), CliError> {
        self.line(format_args!("{value:#}"))
    }

    /// Logs a line.
    pub(crate) fn note(&mut self, text: Arguments<'_>) {
        let _ = writeln!(self.err, "{text}");
    }

    /// Shows progress on standard error: a bar on a terminal, lines elsewhere.
    pub(crate) fn observer(&mut self, quiet: bool) -> Box<dyn Observer + '_> {
        match (quiet, self.err_terminal) {
            (true, _) => Box::new(Silent),
            (false, true) => Box::new(BarObserver::new()),
            (false, false) => Box::new(LineObserver::new(&mut *self.err)),
        }
    }
}

/// The output of a command's rows: a file that appears complete or not at all, or standard output if the path is `-`.
#[derive(Debug)]
pub(crate) enum Rows {
    File(RowWriter),
    /// Buffered until the end, so that a failed command prints no rows.
    StandardOutput {
        text: String,
        num_rows: usize,
    },
}

impl Rows {
    /// Opens the output, so that a file that cannot be written fails before any work is done.
    ///
    /// # Errors
    /// The file's folder is missing or cannot be written.
    pub(crate) fn create(path: &Path) -> Result<Self, CliError> {
        if path == Path::new("-") {
            return Ok(Self::StandardOutput { text: String::new(), num_rows: 0 });
        }
        Ok(Self::File(RowWriter::create(path)?))
    }

    pub(crate) fn num_rows(&self) -> usize {
        match self {
            Self::File(file) => file.num_rows(),
            Self::StandardOutput { num_rows, .. } => *num_rows,
        }
    }

    pub(crate) fn push(&mut self, row: &Value) -> Result<(), CliError> {
        match self {
            Self::File(file) => file.push(row)?,
            Self::StandardOutput { text, num_rows } => {
                *num_rows += 1;
                text.push_str(&row.to_string());
                text.push('\n');
            }
        }
        Ok(())
    }

    /// Renames the file into place, or prints the rows.
    ///
    /// # Errors
    /// The output cannot be written.
    pub(crate) fn commit(self, io: &mut Io<'_>) -> Result<(), CliError> {
        match self {
            Self::File(file) => Ok(file.commit()?),
            Self::StandardOutput { text, .. } => {
                io.out.write_all(text.as_bytes()).map_err(|source| CliError::Output { source })
            }
        }
    }
}
