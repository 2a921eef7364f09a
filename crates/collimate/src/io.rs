//! Where a command reads and writes.

use std::fmt::Arguments;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use collimate_data::JsonRows;
use collimate_files::{AtomicFile, WriteError};
use collimate_hub::Hub;
use collimate_train::progress::{BarObserver, LineObserver, Observer, Silent};
use serde_json::Value;

use crate::error::CliError;
use crate::hub::files_of;
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
    /// Where names that are no paths are looked for.
    pub hub: Hub,
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

/// The name for messages and the rows of a file, of a folder or pattern of files, or of standard input where it is
/// called `-`.
///
/// # Errors
/// There is no such file, or it cannot be read.
pub(crate) fn open_rows(path: &Path, io: &mut Io<'_>) -> Result<(PathBuf, JsonRows), CliError> {
    if path == Path::new("-") {
        let name = PathBuf::from("standard input");
        let rows = JsonRows::from_reader(BufReader::new(std::io::stdin()), &name)?;
        return Ok((name, rows));
    }
    let files = files_of(&[path.to_owned()], io)?;
    Ok((path.to_owned(), JsonRows::open_all(files)?))
}

/// Rows of JSON that appear together or not at all: a file, or standard output where it is called `-`.
#[derive(Debug)]
pub(crate) struct Rows {
    file: Option<BufWriter<AtomicFile>>,
    /// What is for standard output.
    text: String,
    num_rows: usize,
}

impl Rows {
    /// Begins them; where the file cannot be written this says so before any work is done.
    ///
    /// # Errors
    /// The file's folder is not there or cannot be written.
    pub(crate) fn create(path: &Path) -> Result<Self, CliError> {
        let file = if path == Path::new("-") { None } else { Some(BufWriter::new(AtomicFile::create(path)?)) };
        Ok(Self { file, text: String::new(), num_rows: 0 })
    }

    pub(crate) fn num_rows(&self) -> usize {
        self.num_rows
    }

    pub(crate) fn push(&mut self, row: &Value) -> Result<(), CliError> {
        self.num_rows += 1;
        match &mut self.file {
            Some(file) => writeln!(file, "{row}").map_err(|source| {
                let path = file.get_ref().path().to_owned();
                CliError::write(&path)(source)
            }),
            None => {
                self.text.push_str(&row.to_string());
                self.text.push('\n');
                Ok(())
            }
        }
    }

    /// Puts the file in its place, or prints the rows.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn commit(self, io: &mut Io<'_>) -> Result<(), CliError> {
        match self.file {
            Some(file) => commit(file),
            None => io.out.write_all(self.text.as_bytes()).map_err(|source| CliError::Output { source }),
        }
    }

    /// Puts the file in its place; what is for standard output is dropped.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn commit_file(self) -> Result<(), CliError> {
        self.file.map_or(Ok(()), commit)
    }
}

fn commit(file: BufWriter<AtomicFile>) -> Result<(), CliError> {
    let path = file.get_ref().path().to_owned();
    let file = file.into_inner().map_err(|error| WriteError::of(&path)(error.into_error()))?;
    Ok(file.commit()?)
}
