//! A command's streams.

use std::fmt::Arguments;
use std::io::{Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use collimate_data::RowWriter;
use collimate_files::ScratchFolder;
use collimate_hub::Hub;
use collimate_progress::{BarObserver, Both, LineObserver, LogFile, Observer, Silent, terminal_width, wrap};
use serde_json::Value;
use tempfile::SpooledTempFile;

use crate::downloads::Downloads;
use crate::error::CliError;
use crate::signals::Signals;

/// The streams of a command, and what they can display.
pub struct Io<'a> {
    /// Results.
    pub out: &'a mut (dyn Write + Send),
    /// Progress and errors.
    pub err: &'a mut (dyn Write + Send),
    /// Whether results may be colored.
    pub out_color: bool,
    /// Whether errors may be colored.
    pub err_color: bool,
    /// Whether errors go to a terminal.
    pub err_terminal: bool,
    /// Flags set by signal handlers.
    pub signals: Signals,
    /// Where to look up names that are not paths.
    pub hub: Hub,
    /// Shows what the hub downloads; `None` if the caller does so, or nobody.
    pub(crate) downloads: Option<Arc<Downloads>>,
    /// Gets every line too.
    pub log: Option<LogFile>,
}

/// How often a log file gets a status of a stage.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

impl Io<'_> {
    /// Prints a line of results.
    pub(crate) fn line(&mut self, text: Arguments<'_>) -> Result<(), CliError> {
        if let Some(log) = &mut self.log {
            log.lines(&text.to_string());
        }
        writeln!(self.out, "{text}").map_err(|source| CliError::Output { source })
    }

    /// Prints a value as pretty JSON.
    pub(crate) fn json(&mut self, value: &Value) -> Result<(), CliError> {
        self.line(format_args!("{value:#}"))
    }

    /// Logs a line; a terminal's is broken between words.
    pub(crate) fn note(&mut self, text: Arguments<'_>) {
        self.error_text(&text.to_string());
    }

    /// Writes text to standard error and to the log file.
    pub(crate) fn error_text(&mut self, text: &str) {
        if let Some(log) = &mut self.log {
            log.lines(text);
        }
        let text = text.trim_end_matches('\n');
        let _ = match self.err_terminal {
            true => writeln!(self.err, "{}", wrap(text, terminal_width())),
            false => writeln!(self.err, "{text}"),
        };
    }

    /// Appends all further lines to this file, unless another was named on the command line.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn log_to(&mut self, path: Option<&Path>) -> Result<(), CliError> {
        if let (None, Some(path)) = (&self.log, path) {
            self.log = Some(LogFile::open(path)?);
        }
        Ok(())
    }

    /// Shows progress on standard error: a bar on a terminal, lines elsewhere; in the log file in any case.
    pub(crate) fn observer(&mut self, quiet: bool) -> Box<dyn Observer + '_> {
        let log = self.log.clone().map(|log| LineObserver::new(log).with_interval(LOG_INTERVAL));
        let shown: Box<dyn Observer + '_> = match (quiet, self.err_terminal) {
            (true, _) => Box::new(Silent),
            (false, true) => Box::new(BarObserver::new()),
            (false, false) => Box::new(LineObserver::new(&mut *self.err)),
        };
        match log {
            Some(log) => Box::new(Both(shown, Box::new(log))),
            None => shown,
        }
    }
}

/// The output of a command's rows: a file that appears complete or not at all, or standard output if the path is `-`.
#[derive(Debug)]
pub(crate) enum Rows {
    File(RowWriter),
    /// Kept until the end, so that a failed command prints no rows; on disk if they are many.
    StandardOutput {
        text: SpooledTempFile,
        num_rows: usize,
    },
}

/// Bytes of rows for standard output that are in memory rather than on disk.
const MOST_IN_MEMORY: usize = 16 << 20;

/// Where a command keeps rows while it runs: where its output will be, or for standard output and devices in the system's
/// folder for temporary files.
pub(crate) fn scratch_beside(output: &Path) -> ScratchFolder {
    let is_file = output != Path::new("-") && (output.is_file() || !output.exists());
    if is_file { ScratchFolder::beside(output) } else { ScratchFolder::temporary() }
}

impl Rows {
    /// Opens the output, so that a file that cannot be written fails before any work is done.
    ///
    /// # Errors
    /// The file's folder is missing or cannot be written.
    pub(crate) fn create(path: &Path) -> Result<Self, CliError> {
        if path == Path::new("-") {
            return Ok(Self::StandardOutput { text: SpooledTempFile::new(MOST_IN_MEMORY), num_rows: 0 });
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
                writeln!(text, "{row}").map_err(|source| CliError::Output { source })?;
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
            Self::StandardOutput { mut text, .. } => {
                let copied = text.rewind().and_then(|()| std::io::copy(&mut text, io.out));
                copied.map(drop).map_err(|source| CliError::Output { source })
            }
        }
    }
}
