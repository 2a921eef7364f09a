//! TensorBoard event files: a copy of the metrics that TensorBoard reads without a converter.
//!
//! A record is a length, its checksum, the bytes of an `Event` message and their checksum, as defined by TensorFlow's
//! `record_writer.h`, `event.proto` and `summary.proto`. Only scalars and texts are encoded: the crates for the whole
//! format need a protobuf compiler, and none of them had a release in the last two years.

mod event;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use collimate_files::{WriteError, create_plain, plain_folder};
use collimate_recipe::Recipe;

use crate::error::ReportError;
use crate::metrics::MetricsRow;

/// Folder of the event files in a run's folder.
const FOLDER: &str = "tensorboard";

/// The event file of one process of a run. It is not synced: the record of a run is `metrics.jsonl`.
#[derive(Debug)]
pub struct EventWriter {
    file: File,
    path: PathBuf,
}

impl EventWriter {
    /// Starts a file beside those of earlier processes. TensorBoard drops what those hold from `next_step` on, since a
    /// resumed run repeats the steps after its checkpoint.
    ///
    /// # Errors
    /// [`ReportError::Write`] if the file cannot be created.
    pub fn create(run: &Path, next_step: u64) -> Result<Self, ReportError> {
        let folder = run.join(FOLDER);
        plain_folder(&folder).map_err(WriteError::at(&folder))?;
        let (mut writer, now) = (Self::open(&folder)?, seconds());
        writer.write(&event::version(now))?;
        writer.write(&event::session_start(now, next_step))?;
        Ok(writer)
    }

    /// Creates a file under a name that is not taken.
    fn open(folder: &Path) -> Result<Self, ReportError> {
        for number in 0u32.. {
            // TensorBoard reads the files of a folder in order of their names.
            let name = format!("events.out.tfevents.{:010}.{number:04}.collimate", seconds() as u64);
            let path = folder.join(name);
            match create_plain(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                opened => return Ok(Self { file: opened.map_err(WriteError::at(&path))?, path }),
            }
        }
        unreachable!("every number is taken")
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the figures of a row under transformers' names: `train/loss`, `eval/loss`.
    ///
    /// # Errors
    /// [`ReportError::Write`], as on a full disk.
    pub fn row(&mut self, row: &MetricsRow) -> Result<(), ReportError> {
        let step = row.get("step").unwrap_or(0.0) as i64;
        let figures = row.names().filter(|name| *name != "step").filter_map(|name| {
            let tag = match name.strip_prefix("eval_") {
                Some(name) => format!("eval/{name}"),
                None => format!("train/{name}"),
            };
            Some((tag, row.get(name)? as f32))
        });
        let figures: Vec<(String, f32)> = figures.collect();
        self.write(&event::scalars(seconds(), step, &figures))
    }

    /// Writes the recipe as a text: a code block in Markdown.
    ///
    /// # Errors
    /// [`ReportError::Write`], as on a full disk.
    pub fn recipe(&mut self, yaml: &str) -> Result<(), ReportError> {
        let indented: String = yaml.lines().map(|line| format!("    {line}\n")).collect();
        self.write(&event::text(seconds(), "recipe", &indented))
    }

    fn write(&mut self, event: &[u8]) -> Result<(), ReportError> {
        let length = (event.len() as u64).to_le_bytes();
        let record = [&length[..], &masked_crc(&length), event, &masked_crc(event)].concat();
        Ok(self.file.write_all(&record).map_err(WriteError::at(&self.path))?)
    }
}

/// The event file of a run whose recipe asks for one.
///
/// # Errors
/// [`ReportError::Write`] if it cannot be created.
pub fn for_run(recipe: &Recipe, yaml: &str, next_step: usize) -> Result<Option<EventWriter>, ReportError> {
    if !recipe.tensorboard {
        return Ok(None);
    }
    let mut writer = EventWriter::create(&recipe.output_dir, next_step as u64)?;
    writer.recipe(yaml)?;
    Ok(Some(writer))
}

/// CRC-32C masked as the format requires, so that checksums over data that contains checksums stay reliable.
fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The records of a file, each with its checksums verified.
    fn records(bytes: &[u8]) -> Vec<Vec<u8>> {
        let (mut rest, mut records) = (bytes, Vec::new());
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().expect("eight bytes")) as usize;
            assert_eq!(rest[8..12], masked_crc(&rest[..8]));
            let event = &rest[12..12 + length];
            assert_eq!(rest[12 + length..16 + length], masked_crc(event));
            records.push(event.to_vec());
            rest = &rest[16 + length..];
        }
        records
    }

    #[test]
    fn rows_become_records_and_each_process_has_a_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut row = MetricsRow::default();
        row.set_count("step", 3);
        row.set("loss", 0.5);
        row.set("eval_loss", f64::NAN);
        let mut writer = EventWriter::create(folder.path(), 1).expect("a file");
        writer.row(&row).expect("a row");
        writer.recipe("seed: 1\n").expect("a text");
        let bytes = std::fs::read(writer.path()).expect("bytes");
        let records = records(&bytes);
        assert_eq!(records.len(), 4);
        let holds = |record: &[u8], text: &str| record.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(holds(&records[0], "brain.Event:2"));
        // Non-finite figures are not written.
        assert!(holds(&records[2], "train/loss") && !holds(&records[2], "eval/loss"));
        assert!(holds(&records[2], std::str::from_utf8(&0.5f32.to_le_bytes()[..3]).expect("zeros")));
        assert!(holds(&records[3], "    seed: 1"));
        let second = EventWriter::create(folder.path(), 4).expect("a file");
        assert!(second.path() > writer.path());
    }

    #[test]
    fn checksums_are_those_of_the_format() {
        // The first record of every file that TensorFlow writes has 24 bytes; its length's checksum is known.
        assert_eq!(masked_crc(&24u64.to_le_bytes()), [0xa3, 0x7f, 0x4b, 0x22]);
    }
}
