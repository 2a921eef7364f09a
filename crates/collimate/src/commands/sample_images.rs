//! The pictures of drawn tokens, as files.

use std::fs;
use std::path::{Path, PathBuf};

use collimate_files::{check_output, write_atomically};
use collimate_vq::PictureDecoder;
use serde_json::Value;

use crate::error::CliError;

/// A folder that pictures are written to.
pub(super) struct ImageFiles {
    folder: PathBuf,
    decoder: PictureDecoder,
    /// Rows that were written.
    rows: usize,
}

impl ImageFiles {
    /// Checks, before anything is drawn, that the model's folder has a decoder, and, unless `force` is given, that no file is
    /// where a picture will be.
    ///
    /// # Errors
    /// There is no decoder or it cannot be used, or a file is there.
    pub(super) fn new(
        folder: &Path,
        model: &Path,
        rows: usize,
        responses: usize,
        force: bool,
    ) -> Result<Self, CliError> {
        let decoder = PictureDecoder::open(model)?;
        for (row, response) in (0..rows).flat_map(|row| (0..responses).map(move |response| (row, response))) {
            check_output(&file(folder, row, response), [], force)?;
        }
        fs::create_dir_all(folder).map_err(CliError::write(folder))?;
        Ok(Self { folder: folder.to_owned(), decoder, rows: 0 })
    }

    /// Writes the pictures of the next row.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) fn write(&mut self, row: &Value) -> Result<(), CliError> {
        let responses = row["responses"].as_array().map(Vec::as_slice).unwrap_or_default();
        for (number, response) in responses.iter().enumerate() {
            let tokens = response["tokens"].as_array().map(Vec::as_slice).unwrap_or_default();
            let tokens: Vec<u32> = tokens.iter().filter_map(Value::as_u64).map(|token| token as u32).collect();
            let png = self.decoder.picture(&tokens)?.png();
            write_atomically(&file(&self.folder, self.rows, number), &png)?;
        }
        self.rows += 1;
        Ok(())
    }
}

/// The file of a picture: `00003-2.png` is the second response to the third row.
fn file(folder: &Path, row: usize, response: usize) -> PathBuf {
    folder.join(format!("{:05}-{}.png", row + 1, response + 1))
}
