//! Writes JSON Lines to a file that appears complete or not at all.

use std::fmt::Display;
use std::io::{BufWriter, Write};
use std::path::Path;

use collimate_files::{AtomicFile, WriteError};

/// Writes JSON Lines to a temporary file in the target's folder; [`RowWriter::commit`] renames it to the target. Dropping it
/// uncommitted leaves the target as it was.
#[derive(Debug)]
pub struct RowWriter {
    file: BufWriter<AtomicFile>,
    num_rows: usize,
}

impl RowWriter {
    /// Creates the temporary file right away, so that an unwritable folder fails before any work is done.
    ///
    /// # Errors
    /// The file's folder is missing or not writable.
    pub fn create(path: &Path) -> Result<Self, WriteError> {
        Ok(Self { file: BufWriter::new(AtomicFile::create(path)?), num_rows: 0 })
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
        written.map_err(|source| WriteError::of(self.file.get_ref().path())(source))
    }

    /// Syncs the file and renames it to its target.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn commit(self) -> Result<(), WriteError> {
        let path = self.file.get_ref().path().to_owned();
        let file = self.file.into_inner().map_err(|error| WriteError::of(&path)(error.into_error()))?;
        file.commit()
    }
}
