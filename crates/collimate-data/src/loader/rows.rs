//! A file's rows as JSON, whatever its format: JSON Lines or one list, both optionally compressed, Parquet, or token maps.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use collimate_files::open_input;
use serde_json::Value;

use super::kind::{is_safetensors, other_kind};
use super::lines::{LineError, Lines, MAX_LINE_BYTES};
use super::list::{ListError, ListItems};
use super::maps::MapRows;
use super::packed::{GZIP, ZSTD, decompress};
use super::parquet::ParquetRows;
use super::strict_json;
use crate::DataError;

/// The rows of one file.
pub(crate) enum Rows {
    Lines(Lines),
    List(ListItems),
    Parquet(Box<ParquetRows>),
    Maps(Box<MapRows>),
    /// A fatal error has occurred, in the row with this number.
    Ended(usize),
}

impl Rows {
    /// Opens a file; its first bytes tell its format.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        Self::open_file(open_input(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?, path)
    }

    /// As [`Self::open`], for a file that is open already; `path` is for messages.
    pub(crate) fn open_file(file: File, path: &Path) -> Result<Self, DataError> {
        let io = |source| DataError::Io { path: path.to_owned(), source };
        let metadata = file.metadata().map_err(io)?;
        let mut reader = BufReader::with_capacity(1 << 18, file);
        let start = reader.fill_buf().map_err(io)?;
        if start.starts_with(super::parquet::MAGIC) {
            return ParquetRows::open(reader.into_inner()).map(|rows| Self::Parquet(Box::new(rows))).map_err(
                |problem| DataError::File {
                    path: path.to_owned(),
                    problem: format!("not a readable Parquet file: {problem}"),
                },
            );
        }
        if is_safetensors(start) {
            let rows = MapRows::open(reader.into_inner()).map(|rows| Self::Maps(Box::new(rows)));
            return rows.map_err(|problem| DataError::File { path: path.to_owned(), problem });
        }
        let is_gzip = start.starts_with(GZIP);
        if is_gzip || start.starts_with(ZSTD) {
            let decompressed = decompress(reader, is_gzip, metadata.len()).map_err(io)?;
            return Self::read(decompressed).map_err(io);
        }
        if let Some(problem) = other_kind(start, true) {
            return Err(DataError::File { path: path.to_owned(), problem });
        }
        Self::read(reader).map_err(io)
    }

    /// Reads text: JSON Lines, or the elements of one list.
    pub(crate) fn read(mut reader: impl BufRead + Send + 'static) -> std::io::Result<Self> {
        let start = reader.fill_buf()?;
        let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
        Ok(match start.starts_with(b"[") {
            true => Self::List(ListItems::new(Box::new(reader), MAX_LINE_BYTES)),
            false => Self::Lines(Lines::new(Box::new(reader), MAX_LINE_BYTES)),
        })
    }

    /// Number of the last row, from 1: its line, or its position in formats without lines.
    pub(crate) fn number(&self) -> usize {
        match self {
            Self::Lines(lines) => lines.number,
            Self::List(items) => items.number,
            Self::Parquet(rows) => rows.number,
            Self::Maps(rows) => rows.number,
            Self::Ended(number) => *number,
        }
    }

    /// The fields rows may have, if the format declares them.
    pub(crate) fn columns(&self) -> Option<Vec<String>> {
        match self {
            Self::Parquet(rows) => Some(rows.columns()),
            Self::Maps(rows) => Some(rows.columns()),
            _ => None,
        }
    }

    /// The next row; `None` at the end. `path` is for messages.
    pub(crate) fn next(&mut self, path: &Path) -> Option<Result<Value, DataError>> {
        let (row, is_last) = match self {
            Self::Lines(lines) => next_line(lines, path)?,
            Self::List(items) => next_item(items, path)?,
            Self::Parquet(rows) => {
                let row = rows.next()?;
                let is_last = row.is_err();
                (row.map_err(|problem| row_error(path, rows.number, problem)), is_last)
            }
            Self::Maps(rows) => {
                let row = rows.next()?;
                let is_last = row.is_err();
                (row.map_err(|problem| row_error(path, rows.number, problem)), is_last)
            }
            Self::Ended(_) => return None,
        };
        if is_last {
            *self = Self::Ended(self.number());
        }
        Some(row)
    }
}

/// A row, and whether it is the last that can be read.
type Next = (Result<Value, DataError>, bool);

fn next_line(lines: &mut Lines, path: &Path) -> Option<Next> {
    let row = match lines.next()? {
        Ok(line) => strict_json::parse(line).map_err(|error| (error, other_kind(line, false))),
        Err(LineError::Io(source)) => return Some((Err(DataError::Io { path: path.to_owned(), source }), true)),
        Err(LineError::TooLong) => {
            return Some((Err(too_long(path, lines.number, lines.limit_bytes())), true));
        }
    };
    let row = row.map_err(|(error, format)| match format.filter(|_| lines.number == 1) {
        Some(problem) => DataError::File { path: path.to_owned(), problem },
        None => DataError::Json {
            path: path.to_owned(),
            line: lines.number,
            column: error.column(),
            message: format!("{}{}", without_position(&error), if error.is_eof() { EACH_ON_ONE_LINE } else { "" }),
        },
    });
    Some((row, false))
}

const EACH_ON_ONE_LINE: &str = "; each object must be on a single line";

fn next_item(items: &mut ListItems, path: &Path) -> Option<Next> {
    let row = match items.next()? {
        Ok(item) => strict_json::parse(item),
        Err(ListError::Io(source)) => return Some((Err(DataError::Io { path: path.to_owned(), source }), true)),
        Err(ListError::TooLong) => return Some((Err(too_long(path, items.number, items.limit_bytes())), true)),
        Err(ListError::Broken(what)) => {
            return Some((Err(row_error(path, items.number, format!("not a valid JSON list: {what}"))), true));
        }
    };
    // The position within the element would mislead, so the error has only the element's number.
    let wrong = |error: serde_json::Error| format!("not valid JSON: {}", without_position(&error));
    Some((row.map_err(|error| row_error(path, items.number, wrong(error))), false))
}

fn too_long(path: &Path, line: usize, limit_bytes: usize) -> DataError {
    DataError::LineTooLong { path: path.to_owned(), line, limit_bytes }
}

fn row_error(path: &Path, line: usize, problem: String) -> DataError {
    DataError::Row { path: path.to_owned(), line, problem }
}

/// The parser's message without line and column, which are relative to the part it was given.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]).to_owned()
}
