//! Where a command writes.

use std::fmt::Arguments;
use std::io::Write;

use collimate_train::progress::{BarObserver, LineObserver, Observer, Silent};
use serde_json::Value;

use crate::error::CliError;
use crate::signals::Signals;

/// The streams of a command, and what they can show.
pub struct Io<'a> {
    /// Results.
    pub out: &'a mut (dyn Write + Send),
    /// Progress and errors.
    pub err: &'a mut (dyn Write + Send),
    /// Whether results may have colours.
    pub out_color: bool,
    /// Whether errors may have colours.
    pub err_color: bool,
    /// Whether errors are read on a terminal.
    pub err_terminal: bool,
    /// What signal handlers set.
    pub signals: Signals,
}

impl Io<'_> {
    /// A line of results.
    pub(crate) fn line(&mut self, text: Arguments<'_>) -> Result<(), CliError> {
        writeln!(self.out, "{text}").map_err(|source| CliError::Output { source })
    }

    /// A value as pretty JSON.
    pub(crate) fn json(&mut self, value: &Value) -> Result<(), CliError> {
        self.line(format_args!("{value:#}"))
    }

    /// A line of log.
    pub(crate) fn note(&mut self, text: Arguments<'_>) {
        let _ = writeln!(self.err, "{text}");
    }

    /// Shows progress on the stream of errors: a bar on a terminal, else lines.
    pub(crate) fn observer(&mut self, quiet: bool) -> Box<dyn Observer + '_> {
        match (quiet, self.err_terminal) {
            (true, _) => Box::new(Silent),
            (false, true) => Box::new(BarObserver::new()),
            (false, false) => Box::new(LineObserver::new(&mut *self.err)),
        }
    }
}
