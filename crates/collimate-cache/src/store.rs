//! Log-probs by key, in a file that later runs reuse.
//!
//! A file belongs to one scorer and is a list of records of 32 bytes: key (16), log-prob in nats (float64, little-endian),
//! checksum (8, keyed by the scorer). Records are appended under a lock. A damaged or truncated record, or one of another
//! scorer, is ignored; after thousands in a row nothing more of the file is read. The file is read from its start to its end for the keys that are asked for, and never held.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use blake3::Hash;
use collimate_files::{Spool, SpoolFolder, WriteError, open_plain, update_plain};

use crate::key::ResponseKey;

/// Bytes of a record.
const RECORD_BYTES: usize = 32;
/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 32 << 10;

/// Damaged records in a row after which the rest of a file is given up: more than a page or a block that a disk lost. A hole of
/// gigabytes must not be read to its end.
const HOPELESS: usize = 4096;

/// The log-probs of one scorer, of which those that were asked for last are in memory.
#[derive(Debug)]
pub struct LogpStore {
    scorer: Hash,
    /// Those of the keys that were loaded last, and what was inserted since.
    values: HashMap<ResponseKey, f64>,
    /// The file; `None` for a store that lasts for this run only.
    path: Option<PathBuf>,
    /// Whether records go to the file.
    is_writable: bool,
    /// Records that could not.
    own: Spool,
}

impl LogpStore {
    /// A store for one run only.
    pub fn in_memory(scorer: Hash) -> Self {
        Self { scorer, values: HashMap::new(), path: None, is_writable: false, own: Spool::new(SpoolFolder::default()) }
    }

    /// Opens a scorer's file in `folder`, and returns a note for the user if something is wrong with it.
    ///
    /// If the folder cannot be used, the store lasts for this run only.
    pub fn open(folder: &Path, scorer: Hash) -> (Self, Option<String>) {
        let path = folder.join(format!("{}.logps", &scorer.to_hex()[..32]));
        let store = Self { path: Some(path.clone()), is_writable: true, ..Self::in_memory(scorer) };
        let damaged = match fs::create_dir_all(folder).and_then(|()| store.scan_file(&path, |_, _| {})) {
            Ok(damaged) => damaged,
            Err(error) => return (Self::in_memory(scorer), Some(unusable(&path, &error))),
        };
        if !damaged {
            return (store, None);
        }
        // If the repair fails, the damaged records stay and are skipped again next time.
        let repaired = store.repair(&path).is_ok();
        let done = if repaired { "removed" } else { "passed over" };
        let note =
            format!("reference cache: damaged records of {} were {done} and will be computed again", path.display());
        (store, Some(note))
    }

    /// The file, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref().filter(|_| self.is_writable)
    }

    /// Looks up these keys, and forgets all others.
    ///
    /// # Errors
    /// What this run could not write to the file cannot be read back. A file that cannot be read has nothing.
    pub fn load(&mut self, keys: impl Iterator<Item = ResponseKey>) -> Result<(), WriteError> {
        let wanted: HashSet<ResponseKey> = keys.collect();
        let mut found = HashMap::with_capacity(wanted.len());
        // Of several numbers the first counts, so that a run that reads the cache repeats the one that filled it.
        let mut take = |key, logp| {
            if wanted.contains(&key) {
                found.entry(key).or_insert(logp);
            }
        };
        if let Some(path) = &self.path {
            let _ = self.scan_file(path, &mut take);
        }
        self.own.for_each_piece(CHUNK_BYTES, |piece| {
            piece.as_chunks().0.iter().filter_map(content).for_each(|(key, logp)| take(key, logp));
            Ok::<_, WriteError>(())
        })?;
        self.values = found;
        Ok(())
    }

    /// A log-prob of a key that was loaded or inserted, in nats.
    pub fn get(&self, key: ResponseKey) -> Option<f64> {
        self.values.get(&key).copied()
    }

    /// Adds log-probs; an existing one is not replaced. Returns a note, once, if the file cannot be written.
    ///
    /// Non-finite numbers are never written to it.
    ///
    /// # Errors
    /// There is no file, and they cannot be kept for this run either.
    pub fn insert(&mut self, logps: impl Iterator<Item = (ResponseKey, f64)>) -> Result<Option<String>, WriteError> {
        let (mut records, mut own) = (Vec::new(), Vec::new());
        for (key, logp) in logps {
            if self.values.contains_key(&key) {
                continue;
            }
            self.values.insert(key, logp);
            let record = self.record(key, logp);
            own.extend(record);
            if logp.is_finite() {
                records.extend(record);
            }
        }
        let path = self.path.as_deref().filter(|_| self.is_writable);
        let failed = match path {
            Some(path) => append(path, &records).err().map(|error| unusable(path, &error)),
            None => None,
        };
        self.is_writable &= failed.is_none();
        // What is not in the file is looked up here.
        let is_all_in_file = self.is_writable && records.len() == own.len();
        if !is_all_in_file {
            self.own.push(&own)?;
        }
        Ok(failed)
    }

    /// Passes every intact record of a file on; returns whether any were damaged.
    fn scan_file(&self, path: &Path, mut each: impl FnMut(ResponseKey, f64)) -> io::Result<bool> {
        let mut file = match open_plain(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        // Without the lock we may at worst miss a record that is being written.
        let _ = file.lock_shared();
        let (mut damaged, mut in_a_row) = (false, 0);
        for_each_record(&mut file, |record| {
            match record.and_then(|record| self.parse(record)) {
                Some((key, logp)) => {
                    each(key, logp);
                    in_a_row = 0;
                }
                None => (damaged, in_a_row) = (true, in_a_row + 1),
            }
            in_a_row < HOPELESS
        })?;
        Ok(damaged)
    }

    /// Compacts the intact records and truncates the rest. A crash in between only leaves more damaged records.
    fn repair(&self, path: &Path) -> io::Result<()> {
        let mut file = update_plain(path)?;
        file.lock()?;
        let (mut reader, mut writer) = (file.try_clone()?, io::BufWriter::new(file.try_clone()?));
        let (mut read, mut written, mut in_a_row, mut failed) = (0, 0, 0, None);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            // Both share one position, which is set before each use. What is written never overtakes what is read.
            reader.seek(SeekFrom::Start(read))?;
            let count = fill(&mut reader, &mut chunk)?;
            read += count as u64;
            file.seek(SeekFrom::Start(written))?;
            for record in chunk[..count].as_chunks().0 {
                if self.parse(record).is_none() {
                    in_a_row += 1;
                    continue;
                }
                in_a_row = 0;
                failed = failed.or(writer.write_all(record).err());
                written += RECORD_BYTES as u64;
            }
            failed = failed.or(writer.flush().err());
            if let Some(error) = failed {
                return Err(error);
            }
            if count < chunk.len() || in_a_row >= HOPELESS {
                return file.set_len(written);
            }
        }
    }

    fn record(&self, key: ResponseKey, logp: f64) -> [u8; RECORD_BYTES] {
        let mut record = [0; RECORD_BYTES];
        record[..16].copy_from_slice(&key.0);
        record[16..24].copy_from_slice(&logp.to_le_bytes());
        let checksum = self.checksum(&record[..24]);
        record[24..].copy_from_slice(&checksum);
        record
    }

    fn parse(&self, record: &[u8; RECORD_BYTES]) -> Option<(ResponseKey, f64)> {
        let is_sound = self.checksum(&record[..24]) == record[24..];
        content(record).filter(|(_, logp)| is_sound && logp.is_finite())
    }

    fn checksum(&self, content: &[u8]) -> [u8; 8] {
        let mut checksum = [0; 8];
        checksum.copy_from_slice(&blake3::keyed_hash(self.scorer.as_bytes(), content).as_bytes()[..8]);
        checksum
    }
}

/// Key and log-prob of a record.
fn content(record: &[u8; RECORD_BYTES]) -> Option<(ResponseKey, f64)> {
    let (key, logp) = (record.first_chunk::<16>()?, record[16..].first_chunk::<8>()?);
    Some((ResponseKey(*key), f64::from_le_bytes(*logp)))
}

/// Passes the records of a file on while `each` returns true, and `None` for a part of one at the end.
fn for_each_record(file: &mut File, mut each: impl FnMut(Option<&[u8; RECORD_BYTES]>) -> bool) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = fill(file, &mut chunk)?;
        let (records, tail) = chunk[..count].as_chunks();
        let goes_on = records.iter().all(|record| each(Some(record))) && (tail.is_empty() || each(None));
        if !goes_on || count < chunk.len() {
            return Ok(());
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match file.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// Appends whole records after those of other runs, overwriting a partial record that a crash may have left.
fn append(path: &Path, records: &[u8]) -> io::Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let mut file = update_plain(path)?;
    file.lock()?;
    let len = file.metadata()?.len();
    let whole = len - len % RECORD_BYTES as u64;
    file.set_len(whole)?;
    file.seek(SeekFrom::Start(whole))?;
    file.write_all(records)
}

fn unusable(path: &Path, error: &io::Error) -> String {
    format!("reference cache: {}: {error}; the reference's log-probs are kept for this run only", path.display())
}
