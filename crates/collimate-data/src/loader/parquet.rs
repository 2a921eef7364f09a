//! Reads a Parquet file's rows as JSON, in bounded memory.
//!
//! The crate `parquet` decodes pages. We check the sizes that a file claims before the crate allocates for them
//! ([`thrift`], [`pages`]), and turn its panics into errors.
//!
//! We assemble rows ourselves ([`schema`], [`columns`]), because the crate's record reader returns a row only once it is
//! complete: a list that repeats one dictionary entry of 4 KiB half a million times takes 4,249 bytes in a file and 2 GB
//! in memory (`fuzz/corpus/row_file/regression-text-bomb.parquet`). It also pairs values of different rows if the columns
//! of a list disagree in length, so a response would get another response's reward; we refuse such rows.

mod budget;
mod columns;
mod pages;
mod schema;
mod thrift;

use std::fs::File;
use std::sync::Arc;

use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};
use serde_json::Value;

use crate::caught::caught;
use budget::Budget;
use columns::Column;
use schema::Node;

/// The first and last four bytes of a Parquet file.
pub(super) const MAGIC: &[u8] = b"PAR1";

/// Size limit of the footer, in bytes. A file with a million column chunks has a footer of some tens of megabytes.
const MAX_FOOTER_BYTES: u64 = 64 << 20;

/// Iterates over a file's rows. One page per column and one row are in memory.
pub(super) struct ParquetRows {
    file: Arc<File>,
    metadata: ParquetMetaData,
    root: Node,
    budget: Arc<Budget>,
    next_group: usize,
    columns: Vec<Column>,
    rows_left: u64,
    /// Number of the current row, from 1; 0 before the first.
    pub(super) number: usize,
}

impl ParquetRows {
    /// Reads the file's metadata.
    ///
    /// # Errors
    /// A message: the file is damaged, or uses a feature that is not supported, such as encryption or very deep nesting.
    pub(super) fn open(file: File) -> Result<Self, String> {
        let file_bytes = Length::len(&file);
        check_footer(&file, file_bytes)?;
        let (metadata, root) = caught(|| {
            let metadata = ParquetMetaDataReader::new().parse_and_finish(&file).map_err(|error| error.to_string())?;
            let root = Node::from_schema(metadata.file_metadata().schema_descr())?;
            Ok::<_, String>((metadata, root))
        })
        .map_err(contradiction)??;
        let budget = Budget::new(file_bytes);
        let counts = metadata.row_groups().iter().map(|group| u64::try_from(group.num_rows()));
        let num_rows = counts.sum::<Result<u64, _>>().map_err(|_| "a negative number of rows".to_owned())?;
        budget.check_rows(num_rows)?;
        let (file, budget) = (Arc::new(file), Arc::new(budget));
        Ok(Self { file, metadata, root, budget, next_group: 0, columns: Vec::new(), rows_left: 0, number: 0 })
    }

    /// Names of the columns.
    pub(super) fn columns(&self) -> Vec<String> {
        self.root.field_names()
    }

    /// The next row, an object without the fields that are null; `None` at the end.
    pub(super) fn next(&mut self) -> Option<Result<Value, String>> {
        while self.rows_left == 0 {
            let group = self.metadata.row_groups().get(self.next_group)?;
            self.next_group += 1;
            let opened = caught(|| columns::open(&self.file, group, &self.budget));
            match opened.map_err(contradiction).and_then(|opened| opened) {
                Ok(columns) => self.columns = columns,
                Err(problem) => {
                    self.number += 1;
                    return Some(Err(problem));
                }
            }
            self.rows_left = u64::try_from(group.num_rows()).unwrap_or(0);
        }
        self.rows_left -= 1;
        self.number += 1;
        Some(caught(|| self.row()).map_err(contradiction).and_then(|row| row))
    }

    fn row(&mut self) -> Result<Value, String> {
        self.budget.begin_row();
        for column in &mut self.columns {
            column.next_row(&self.budget)?;
        }
        let row = self.root.read(&mut self.columns, &self.budget)?;
        match self.columns.iter().all(Column::is_at_end) {
            true => Ok(row),
            false => Err(columns::DISAGREE.to_owned()),
        }
    }
}

/// Message for a panic in the crate.
fn contradiction(panic: String) -> String {
    format!("the file contradicts itself ({panic})")
}

/// Checks the footer before the crate, which trusts it, parses it.
fn check_footer(file: &File, file_bytes: u64) -> Result<(), String> {
    let bytes = |start: u64, length: usize| file.get_bytes(start, length).map_err(|error| error.to_string());
    // Around the contents and the footer: the magic number twice, and the length of the footer.
    let Some(max_bytes) = file_bytes.checked_sub(12) else { return Err("it is truncated".to_owned()) };
    let end = bytes(file_bytes - 8, 8)?;
    match &end[4..] {
        MAGIC => {}
        b"PARE" => return Err("it is encrypted".to_owned()),
        _ => return Err("it is truncated: it does not end like a Parquet file".to_owned()),
    }
    let length = u32::from_le_bytes([end[0], end[1], end[2], end[3]]);
    if u64::from(length) > max_bytes.min(MAX_FOOTER_BYTES) {
        return Err(format!("it claims a footer of {length} bytes"));
    }
    let footer = bytes(file_bytes - 8 - u64::from(length), length as usize)?;
    thrift::check_footer(&footer)
}
