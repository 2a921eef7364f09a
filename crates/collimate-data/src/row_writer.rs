//! Writes JSON Lines to a file that appears complete or not at all, or to a pipe or device as they come.

use std::fmt::Display;
use std::io::{BufWriter, Write};
use std::path::Path;

use collimate_files::{AtomicFile, OutputFile, WriteError};

/// Writes JSON Lines to a temporary file in the target's folder; [`RowWriter::commit`] renames it to the target. Dropping it
/// uncommitted leaves the target as it was.
#[derive(Debug)]
pub struct RowWriter {
    file: BufWriter<OutputFile>,
    num_rows: usize,
}

impl RowWriter {
    /// Opens an output that a user named. A temporary file is created right away, so that an unwritable folder fails before any
    /// work is done; a pipe or a device is written to as it is.
    ///
    /// # Errors
    /// The file's folder is missing or not writable, or what has the name is not written to.
    pub fn create(path: &Path) -> Result<Self, WriteError> {
        Ok(Self { file: BufWriter::new(OutputFile::create(path)?), num_rows: 0 })
    }

    /// Opens a file of a folder that this program keeps: nothing but a plain file is replaced.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_plain(path: &Path) -> Result<Self, WriteError> {
        Ok(Self { file: BufWriter::new(OutputFile::File(AtomicFile::create(path)?)), num_rows: 0 })
    }

    /// Rows written so far.
    pub fn num_rows(&self) -> usize {
        self.num_rows
    }

    /// Writes one row: a JSON value on a line.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn push(&mut self, row: &dyn Display) -> Result<(), WriteError> {
        self.num_rows += 1;
        let written = writeln!(self.file, "{row}");
        written.map_err(|source| WriteError::at(self.file.get_ref().path())(source))
    }

    /// Syncs the file and renames it to its target.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn commit(self) -> Result<(), WriteError> {
        let path = self.file.get_ref().path().to_owned();
        let file = self.file.into_inner().map_err(|error| WriteError::at(&path)(error.into_error()))?;
        file.commit()
    }
}
