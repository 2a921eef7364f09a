//! Reads `metrics.jsonl` row by row: the file of a long run is much larger than anything else held in memory for it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Take};
use std::path::{Path, PathBuf};

use collimate_files::open_plain;

use super::file::{MAX_METRICS_BYTES, MAX_ROW_BYTES};
use super::row::MetricsRow;
use crate::error::ReportError;

/// The rows of a `metrics.jsonl`, in order; a last line truncated by a crash is ignored.
#[derive(Debug)]
pub struct MetricsReader {
    lines: BufReader<Take<File>>,
    path: PathBuf,
    line: usize,
    buffer: Vec<u8>,
}

impl MetricsReader {
    /// Opens the file.
    ///
    /// # Errors
    /// [`ReportError::Io`] if it cannot be opened or is larger than any run makes it.
    pub fn open(path: &Path) -> Result<Self, ReportError> {
        let failed = |source| ReportError::io(path, source);
        let file = open_plain(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() > MAX_METRICS_BYTES {
            let message = format!("it has more than {MAX_METRICS_BYTES} bytes, which no such file needs");
            return Err(failed(io::Error::other(message)));
        }
        let lines = BufReader::new(file.take(MAX_METRICS_BYTES));
        Ok(Self { lines, path: path.to_owned(), line: 0, buffer: Vec::new() })
    }

    /// Reads the next line that is not blank; `None` at the end of the file.
    fn read_line(&mut self) -> Result<Option<()>, ReportError> {
        loop {
            self.buffer.clear();
            let mut line = (&mut self.lines).take(MAX_ROW_BYTES + 1);
            let length =
                line.read_until(b'\n', &mut self.buffer).map_err(|source| ReportError::io(&self.path, source))?;
            if length == 0 {
                return Ok(None);
            }
            self.line += 1;
            if length as u64 > MAX_ROW_BYTES {
                return Err(self.damaged(format!("it has more than {MAX_ROW_BYTES} bytes")));
            }
            if !self.buffer.trim_ascii().is_empty() {
                return Ok(Some(()));
            }
        }
    }

    fn damaged(&self, message: String) -> ReportError {
        ReportError::Metrics { path: self.path.clone(), line: self.line, message }
    }
}

impl Iterator for MetricsReader {
    /// A row, [`ReportError::Io`] if the file cannot be read, or [`ReportError::Metrics`] if a line is not a row.
    type Item = Result<MetricsRow, ReportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.read_line().transpose()? {
            return Some(Err(error));
        }
        match serde_json::from_slice(&self.buffer) {
            Ok(row) => Some(Ok(row)),
            Err(_) if !self.buffer.ends_with(b"\n") => None,
            Err(error) => Some(Err(self.damaged(error.to_string()))),
        }
    }
}

/// Reads all rows of a `metrics.jsonl` at once; see [`MetricsReader`] for long runs.
///
/// # Errors
/// [`ReportError::Io`] if the file cannot be read, [`ReportError::Metrics`] if a line is not a row.
pub fn read_metrics(path: &Path) -> Result<Vec<MetricsRow>, ReportError> {
    MetricsReader::open(path)?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Vec<MetricsRow>, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, text).expect("a file");
        read_metrics(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn a_row_that_a_crash_cut_short_is_ignored_and_any_other_is_named() {
        assert_eq!(read(b"{\"step\": 1}\n\n  \n{\"step\": 2}").expect("rows").len(), 2);
        assert_eq!(read(b"{\"step\": 1}\n{\"step\": ").expect("rows").len(), 1);
        let error = read(b"{\"step\": 1}\n\n{\"step\": \n{\"step\": 3}\n").expect_err("damaged");
        assert!(error.contains("metrics.jsonl:3: not a row of metrics"), "{error}");
        let error = read(b"{\"step\": 1}\n{\"a\xff\": 1}\n").expect_err("not UTF-8");
        assert!(error.contains("metrics.jsonl:2: not a row of metrics"), "{error}");
    }

    #[test]
    fn a_row_without_end_is_not_read() {
        let error = read(&vec![b' '; (MAX_ROW_BYTES + 2) as usize]).expect_err("too long").to_string();
        assert!(error.contains("metrics.jsonl:1: not a row of metrics: it has more than 16777216 bytes"), "{error}");
    }
}
