//! Writes `metrics.jsonl`.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use collimate_files::{AtomicFile, WriteError, append_plain, open_plain, write_atomically};

use super::row::MetricsRow;
use crate::error::ReportError;

/// Size limit of `metrics.jsonl`, in bytes: enough for a million rows.
pub(super) const MAX_METRICS_BYTES: u64 = 1 << 30;
/// Size limit of one row, in bytes; one of a thousand responses has some 100,000.
pub(super) const MAX_ROW_BYTES: u64 = 16 << 20;

/// Appends rows to `metrics.jsonl` in place, so that each is in the file as soon as it is written; [`read_metrics`](super::read_metrics) ignores
/// a last line truncated by a crash.
#[derive(Debug)]
pub struct MetricsWriter {
    file: File,
    path: PathBuf,
}

impl MetricsWriter {
    /// Starts a new file, replacing an old one.
    ///
    /// # Errors
    /// [`ReportError::Write`] if the file cannot be created.
    pub fn create(path: &Path) -> Result<Self, ReportError> {
        // A new file takes the old one's place: nothing is emptied that has another name, too.
        write_atomically(path, b"")?;
        Self::open(path)
    }

    /// Continues after the first `num_rows` rows, which stay byte for byte; a resumed run repeats the later ones. Calls
    /// `on_row` for each kept row and returns their number, which is smaller if the file is damaged or absent.
    ///
    /// # Errors
    /// [`ReportError::Io`] if the file cannot be read, [`ReportError::Write`] if it cannot be written.
    pub fn resume(
        path: &Path,
        num_rows: usize,
        on_row: &mut dyn FnMut(MetricsRow),
    ) -> Result<(Self, usize), ReportError> {
        let mut kept = 0;
        let mut copy = AtomicFile::create(path)?;
        let old: Box<dyn Read> = match open_plain(path) {
            Ok(old) => Box::new(old.take(MAX_METRICS_BYTES)),
            Err(error) if error.kind() == ErrorKind::NotFound => Box::new(std::io::empty()),
            Err(source) => return Err(ReportError::io(path, source)),
        };
        // Row by row: the file of a long run is much larger than anything else held in memory for it.
        let (mut old, mut line) = (BufReader::new(old), Vec::new());
        while kept < num_rows {
            line.clear();
            old.by_ref()
                .take(MAX_ROW_BYTES)
                .read_until(b'\n', &mut line)
                .map_err(|error| ReportError::io(path, error))?;
            let row = line.strip_suffix(b"\n").unwrap_or(&line);
            let Ok(parsed) = serde_json::from_slice(row) else { break };
            copy.write_all(&[row, b"\n"].concat()).map_err(WriteError::at(path))?;
            on_row(parsed);
            kept += 1;
        }
        copy.commit()?;
        Ok((Self::open(path)?, kept))
    }

    /// Syncs all rows to the disk.
    ///
    /// # Errors
    /// [`ReportError::Write`], as on a full disk.
    pub fn sync(&self) -> Result<(), ReportError> {
        Ok(self.file.sync_all().map_err(WriteError::at(&self.path))?)
    }

    /// Appends one row.
    ///
    /// # Errors
    /// [`ReportError::Write`], as on a full disk.
    pub fn write(&mut self, row: &MetricsRow) -> Result<(), ReportError> {
        let line = row.to_json() + "\n";
        Ok(self.file.write_all(line.as_bytes()).map_err(WriteError::at(&self.path))?)
    }

    fn open(path: &Path) -> Result<Self, ReportError> {
        let file = append_plain(path).map_err(WriteError::at(path))?;
        Ok(Self { file, path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::read_metrics;
    use super::*;

    #[test]
    fn damaged_rows_and_what_follows_them_are_not_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("metrics.jsonl");
        for (text, kept) in [
            (&b"{\"step\": 1}\n{\"ste\0\0\n{\"step\": 3}\n"[..], 1),
            (b"{\"step\": 1}\n{\"step\": 2}\n{\"step\": ", 2),
            // Complete except for its newline, which is added.
            (b"{\"step\": 1}\n{\"step\": 2}\n{\"step\": 3}", 3),
            (b"", 0),
        ] {
            std::fs::write(&path, text).expect("a file");
            let (_, found) = MetricsWriter::resume(&path, 3, &mut |_| {}).expect("a file");
            assert_eq!(found, kept);
            assert_eq!(read_metrics(&path).expect("rows").len(), kept);
        }
        // A file of zeros without end, as a sparse one is: no row is that long.
        std::fs::File::create(&path).expect("a file").set_len(1 << 40).expect("a sparse file");
        assert_eq!(MetricsWriter::resume(&path, 3, &mut |_| {}).expect("a file").1, 0);
        std::fs::remove_file(&path).expect("a file");
        assert_eq!(MetricsWriter::resume(&path, 3, &mut |_| {}).expect("a file").1, 0);
    }

    #[test]
    fn a_resumed_file_forgets_the_steps_that_will_be_repeated() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("metrics.jsonl");
        let mut writer = MetricsWriter::create(&path).expect("a file");
        let mut at_checkpoint = Vec::new();
        for step in 1..=4 {
            let mut row = MetricsRow::default();
            row.set_count("step", step);
            writer.write(&row).expect("a row");
            if step == 3 {
                writer.sync().expect("a disk");
                at_checkpoint = std::fs::read(&path).expect("rows");
            }
        }
        drop(writer);
        let cut = std::fs::read_to_string(&path).expect("text") + "{\"step\": 5, \"lo";
        std::fs::write(&path, cut).expect("a file");
        let mut rows = Vec::new();
        let (mut resumed, kept) = MetricsWriter::resume(&path, 3, &mut |row| rows.push(row)).expect("a file");
        assert_eq!((kept, rows.len()), (3, 3));
        assert_eq!(std::fs::read(&path).expect("rows"), at_checkpoint);
        let steps: Vec<_> = read_metrics(&path).expect("rows").iter().map(|row| row.get("step")).collect();
        assert_eq!(steps, [Some(1.0), Some(2.0), Some(3.0)]);
        let mut row = MetricsRow::default();
        row.set_count("step", 4);
        resumed.write(&row).expect("a row");
        assert_eq!(read_metrics(&path).expect("rows").len(), 4);
    }
}
