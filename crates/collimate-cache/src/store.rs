//! Log-probs by key, in memory and in a file that later runs reuse.
//!
//! A file belongs to one scorer and is a list of records of 32 bytes: key (16), log-prob in nats (float64, little-endian),
//! checksum (8, keyed by the scorer). Records are appended under a lock. A damaged or truncated record, or one of another
//! scorer, is ignored.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use blake3::Hash;

use crate::key::ResponseKey;

/// Bytes of a record.
const RECORD_BYTES: usize = 32;

/// The known log-probs of one scorer.
#[derive(Debug)]
pub struct LogpStore {
    scorer: Hash,
    values: HashMap<ResponseKey, f64>,
    /// The file; `None` for a store that lasts for this run only.
    path: Option<PathBuf>,
}

impl LogpStore {
    /// A store for one run only.
    pub fn in_memory(scorer: Hash) -> Self {
        Self { scorer, values: HashMap::new(), path: None }
    }

    /// Opens a scorer's file in `folder`, and returns a note for the user if something is wrong with it.
    ///
    /// If the folder cannot be used, the store lasts for this run only.
    pub fn open(folder: &Path, scorer: Hash) -> (Self, Option<String>) {
        let path = folder.join(format!("{}.logps", &scorer.to_hex()[..32]));
        let mut store = Self { scorer, values: HashMap::new(), path: Some(path.clone()) };
        let damaged = match fs::create_dir_all(folder).and_then(|()| store.read(&path)) {
            Ok(damaged) => damaged,
            Err(error) => return (Self::in_memory(scorer), Some(unusable(folder, &error))),
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
        self.path.as_deref()
    }

    /// A known log-prob, in nats.
    pub fn get(&self, key: ResponseKey) -> Option<f64> {
        self.values.get(&key).copied()
    }

    /// Adds log-probs; an existing one is not replaced. Returns a note, once, if the file cannot be written.
    ///
    /// Non-finite numbers are never written.
    pub fn insert(&mut self, logps: impl Iterator<Item = (ResponseKey, f64)>) -> Option<String> {
        let mut records = Vec::new();
        for (key, logp) in logps {
            if self.values.contains_key(&key) {
                continue;
            }
            self.values.insert(key, logp);
            if logp.is_finite() {
                records.extend(self.record(key, logp));
            }
        }
        let path = self.path.as_deref()?;
        let error = append(path, &records).err()?;
        let note = unusable(path, &error);
        self.path = None;
        Some(note)
    }

    /// Reads all intact records; returns whether any were damaged.
    fn read(&mut self, path: &Path) -> io::Result<bool> {
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(mut file) => {
                // Without the lock we may at worst miss a record that is being written.
                let _ = file.lock_shared();
                file.read_to_end(&mut bytes)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        let (records, tail) = bytes.as_chunks::<RECORD_BYTES>();
        let mut damaged = !tail.is_empty();
        for record in records {
            match self.parse(record) {
                Some((key, logp)) => {
                    self.values.entry(key).or_insert(logp);
                }
                None => damaged = true,
            }
        }
        Ok(damaged)
    }

    /// Compacts the intact records and truncates the rest. A crash in between only leaves more damaged records.
    fn repair(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        file.lock()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let sound = bytes.as_chunks::<RECORD_BYTES>().0.iter().filter(|record| self.parse(record).is_some());
        let sound: Vec<u8> = sound.flatten().copied().collect();
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&sound)?;
        file.set_len(sound.len() as u64)
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
        let (content, checksum) = record.split_at(24);
        let (key, logp) = (content.first_chunk::<16>()?, content.last_chunk::<8>()?);
        let logp = f64::from_le_bytes(*logp);
        (self.checksum(content) == checksum && logp.is_finite()).then_some((ResponseKey(*key), logp))
    }

    fn checksum(&self, content: &[u8]) -> [u8; 8] {
        let mut checksum = [0; 8];
        checksum.copy_from_slice(&blake3::keyed_hash(self.scorer.as_bytes(), content).as_bytes()[..8]);
        checksum
    }
}

/// Appends whole records after those of other runs, overwriting a partial record that a crash may have left.
fn append(path: &Path, records: &[u8]) -> io::Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
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
