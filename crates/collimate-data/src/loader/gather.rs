//! Gathers rows of one response by their prompts.

use std::collections::{HashMap, VecDeque};
use std::env::temp_dir;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Seek, SeekFrom, Write};

use serde_json::Value;
use tempfile::SpooledTempFile;

use crate::DataError;
use crate::layout::raw::{RawGroup, RowKind};

/// Bytes of rows that are kept in memory rather than on disk.
const MOST_IN_MEMORY: usize = 16 << 20;

/// A parsed row, or rows, with its place.
pub(super) struct PlacedGroup {
    pub(super) raw: RawGroup,
    /// Position among the rows of all files, from 0.
    pub(super) index: usize,
    /// Line in its file, from 1.
    pub(super) line: usize,
}

/// Where a row is kept, and where it came from.
struct KeptRow {
    start: u64,
    len: u32,
    index: usize,
    line: usize,
}

/// The rows of a group, which say alike where their rewards are.
struct Members {
    signal_name: &'static str,
    rows: Vec<KeptRow>,
}

/// Rows of one response, gathered by their prompts in the order of each prompt's first row.
///
/// The rows of a prompt may be anywhere in the files, so all of them are kept: on disk, if they are many. Memory holds some
/// bytes for each row and prompt.
pub(super) struct Gathered {
    groups: VecDeque<Result<Members, DataError>>,
    /// Position of a prompt's group, by two hashes of the prompt.
    by_prompt: HashMap<[u64; 2], usize>,
    hashers: [RandomState; 2],
    rows: SpooledTempFile,
    end: u64,
}

impl Gathered {
    pub(super) fn new() -> Self {
        Self {
            groups: VecDeque::new(),
            by_prompt: HashMap::new(),
            hashers: [RandomState::new(), RandomState::new()],
            rows: SpooledTempFile::new(MOST_IN_MEMORY),
            end: 0,
        }
    }

    /// Adds a row to its prompt's group, or an error in the place of one.
    ///
    /// # Errors
    /// The row cannot be kept.
    pub(super) fn add(&mut self, parsed: Result<PlacedGroup, DataError>, row: Option<&Value>) -> Result<(), DataError> {
        let PlacedGroup { raw, index, line } = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                self.groups.push_back(Err(error));
                return Ok(());
            }
        };
        let text = row.map(Value::to_string).unwrap_or_default();
        self.rows.write_all(text.as_bytes()).map_err(failed)?;
        let kept = KeptRow { start: self.end, len: text.len() as u32, index, line };
        self.end += text.len() as u64;
        let prompt = self.hashers.each_ref().map(|hasher| hasher.hash_one((&raw.prompt, &raw.chat)));
        let first = self.by_prompt.get(&prompt).and_then(|position| self.groups.get_mut(*position));
        match first {
            Some(Ok(first)) if raw.kind == RowKind::OneOfMany && first.signal_name == raw.signal_name => {
                first.rows.push(kept);
            }
            _ => {
                if raw.kind == RowKind::OneOfMany {
                    self.by_prompt.entry(prompt).or_insert(self.groups.len());
                }
                self.groups.push_back(Ok(Members { signal_name: raw.signal_name, rows: vec![kept] }));
            }
        }
        Ok(())
    }

    /// The next group, or the error of a row; call it after the last row is added. `parse` is what the rows were
    /// parsed with, given a row with its index and line.
    pub(super) fn next(
        &mut self,
        parse: impl Fn(&Value, usize, usize) -> Result<RawGroup, DataError>,
    ) -> Option<Result<PlacedGroup, DataError>> {
        // No row is added any more.
        self.by_prompt = HashMap::new();
        let members = match self.groups.pop_front()? {
            Ok(members) => members,
            Err(error) => return Some(Err(error)),
        };
        Some(self.group(&members.rows, parse))
    }

    fn group(
        &mut self,
        rows: &[KeptRow],
        parse: impl Fn(&Value, usize, usize) -> Result<RawGroup, DataError>,
    ) -> Result<PlacedGroup, DataError> {
        let mut group: Option<PlacedGroup> = None;
        for &KeptRow { start, len, index, line } in rows {
            let mut text = vec![0; len as usize];
            self.rows.seek(SeekFrom::Start(start)).and_then(|_| self.rows.read_exact(&mut text)).map_err(failed)?;
            let row = serde_json::from_slice(&text).map_err(|error| failed(error.into()))?;
            let mut raw = parse(&row, index, line)?;
            let Some(group) = &mut group else {
                group = Some(PlacedGroup { raw, index, line });
                continue;
            };
            for response in &mut raw.responses {
                response.field = format!("{} (line {line})", response.field);
                response.signal_field = format!("{} (line {line})", response.signal_field);
            }
            group.raw.responses.append(&mut raw.responses);
        }
        group.ok_or_else(|| failed(io::ErrorKind::UnexpectedEof.into()))
    }
}

fn failed(source: io::Error) -> DataError {
    DataError::Io { path: temp_dir(), source }
}
