//! The responses of a file in the order in which workers are asked about them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use collimate_data::{DataError, JsonRows};
use collimate_files::ScratchFolder;

use super::RewardError;
use super::answer::Request;
use super::rows::RewardRow;
use crate::stored_rows::StoredRows;

/// The rows of files that have responses each, on disk: memory does not grow with them.
#[derive(Debug)]
pub struct RewardRows {
    rows: StoredRows,
    /// Responses of each row.
    counts: Vec<u32>,
    /// Why a row could not be read back for a program's input.
    fault: Mutex<Option<DataError>>,
}

impl RewardRows {
    /// Reads and checks all rows and keeps them in a file of `scratch`; messages refer to the files as `name`.
    ///
    /// # Errors
    /// A row that is not an object with `prompt` and `responses`, or no rows at all; the disk is full.
    pub fn read(name: &Path, rows: JsonRows, scratch: &ScratchFolder) -> Result<Self, RewardError> {
        let mut counts = Vec::new();
        let rows = StoredRows::read(rows, scratch, |row| {
            counts.push(RewardRow::parse(row)?.num_responses() as u32);
            Ok::<_, RewardError>(())
        })?;
        if counts.is_empty() {
            return Err(DataError::File { path: name.to_owned(), problem: "there are no rows in it".to_owned() }.into());
        }
        Ok(Self { rows, counts, fault: Mutex::new(None) })
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// Number of a row's responses, K.
    pub(super) fn num_responses(&self, row: usize) -> usize {
        self.counts[row] as usize
    }

    /// The file of a row and its line, counted from 1.
    pub(super) fn location(&self, row: usize) -> (&Path, usize) {
        self.rows.location(row)
    }

    pub(super) fn get(&self, row: usize) -> Result<RewardRow, DataError> {
        RewardRow::parse(self.rows.get(row)?)
    }

    /// The requests as lines of a program's input; they end early if a row cannot be read back, which [`Self::fault`] tells.
    pub(super) fn lines(self: Arc<Self>, requests: impl Iterator<Item = Request>) -> impl Iterator<Item = String> {
        let mut held: Option<(usize, RewardRow)> = None;
        requests.map_while(move |Request { row, response }| {
            if held.as_ref().is_none_or(|(index, _)| *index != row) {
                match self.get(row) {
                    Ok(read) => held = Some((row, read)),
                    Err(error) => {
                        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        return None;
                    }
                }
            }
            held.as_ref().map(|(_, read)| read.request(row, response))
        })
    }

    /// Why a program's input ended early, if it did.
    pub(super) fn fault(&self) -> Option<DataError> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The responses that a worker is asked about, in the file's order: those of every `step`th row.
#[derive(Debug, Clone)]
pub(super) struct Requests {
    pub(super) rows: Arc<RewardRows>,
    pub(super) step: usize,
    /// The next one, if its row has that many responses.
    pub(super) next: Request,
}

impl Iterator for Requests {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        while self.next.row < self.rows.len() {
            let asked = self.next;
            if asked.response < self.rows.num_responses(asked.row) {
                self.next.response += 1;
                return Some(asked);
            }
            self.next = Request { row: asked.row + self.step, response: 0 };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn stored(text: &str) -> Result<RewardRows, RewardError> {
        let name = Path::new("rows.jsonl");
        let folder = tempfile::tempdir().expect("a folder");
        let rows = JsonRows::from_reader(std::io::Cursor::new(text.to_owned()), name)?;
        RewardRows::read(name, rows, &ScratchFolder::beside(&folder.path().join("out.jsonl")))
    }

    #[test]
    fn a_worker_is_asked_about_the_responses_of_its_own_rows() {
        let row = |count: usize| json!({"prompt": "p", "responses": vec![json!({"content": "x"}); count]}).to_string();
        let rows = Arc::new(stored(&[2, 1, 0, 3, 1].map(row).join("\n")).expect("rows"));
        let asked = |worker| {
            let next = Request { row: worker, response: 0 };
            let requests = Requests { rows: Arc::clone(&rows), step: 2, next };
            requests.map(|Request { row, response }| (row, response)).collect::<Vec<_>>()
        };
        assert_eq!(asked(0), [(0, 0), (0, 1), (4, 0)]);
        assert_eq!(asked(1), [(1, 0), (3, 0), (3, 1), (3, 2)]);
    }

    #[test]
    fn rows_are_read_back_for_the_program() {
        let row = |id: usize| json!({"prompt": "p", "id": id, "responses": [{"content": "x"}, {"content": "y"}]});
        let rows = Arc::new(stored(&format!("\n{}\n{}\n", row(0), row(1))).expect("rows"));
        assert_eq!(rows.location(1), (Path::new("rows.jsonl"), 3));
        let next = Request { row: 0, response: 1 };
        let lines: Vec<String> = Arc::clone(&rows).lines(Requests { rows: Arc::clone(&rows), step: 1, next }).collect();
        let request = |row: usize, k: usize, text: &str| {
            format!(
                "{{\"index\":{row},\"response_index\":{k},\"prompt\":\"p\",\"response\":\"{text}\",\"id\":{row}}}\n"
            )
        };
        assert_eq!(lines, [request(0, 1, "y"), request(1, 0, "x"), request(1, 1, "y")]);
        assert!(rows.fault().is_none());
    }

    #[rstest]
    #[case("[]")]
    #[case(" \n")]
    fn a_file_without_rows_is_named(#[case] text: &str) {
        assert_eq!(stored(text).expect_err("no rows").to_string(), "rows.jsonl: there are no rows in it");
    }
}
