//! The folder of stores: what is there, what is added, and what is removed to keep it small.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use blake3::Hash;
use collimate_files::{AtomicFile, SpoolFolder, open_plain, read_exact_at, remove_leftovers_beside};
use rayon::prelude::*;

use crate::error::StoreError;
use crate::facts::Facts;
use crate::format::{HEADER_BYTES, Lengths, MAGIC, TRAILER_BYTES};
use crate::groups::{Body, GroupStore};
use crate::memo::Memo;
use crate::scan::GroupScan;
use crate::sources::Sources;
use crate::stamp::Stamp;
use crate::writer::Writer;

/// Bytes of stores to keep. Beyond it those are removed that were not used for the longest time; the one in use stays.
pub const MAX_CACHE_BYTES: u64 = 64 << 30;
/// Small files that say something about others; beyond it the oldest are removed.
const MAX_MEMOS: usize = 1000;
/// The largest facts, in bytes.
const MAX_FACTS_BYTES: u64 = 64 << 20;
/// Groups that are checked by one thread at a time.
const CHECKED_AT_ONCE: usize = 4096;

/// Where stores are kept between runs, and where private files go.
#[derive(Debug, Clone)]
pub struct StoreFolder {
    folder: Option<PathBuf>,
    spool: SpoolFolder,
    max_bytes: u64,
}

impl StoreFolder {
    /// Keeps stores in `folder`; with none, each lasts for its process only.
    pub fn new(folder: Option<PathBuf>) -> Self {
        // Where one large file may be, others may be too.
        let usable = folder.clone().filter(|folder| fs::create_dir_all(folder).is_ok());
        let spool = usable.map(SpoolFolder::new).filter(|folder| folder.file().is_ok()).unwrap_or_default();
        Self { folder, spool, max_bytes: MAX_CACHE_BYTES }
    }

    /// Keeps less than [`MAX_CACHE_BYTES`].
    pub fn with_max_bytes(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }

    /// The folder of stores.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Where private files go.
    pub fn spool(&self) -> &SpoolFolder {
        &self.spool
    }

    fn path(&self, key: &Hash, kind: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("{}.{kind}", &key.to_hex()[..32])))
    }

    /// The store of an earlier run. A file that is not whole is no store; then a line says so.
    pub(crate) fn find(&self, key: &Hash, sources: &Sources) -> (Option<GroupStore>, Option<String>) {
        let Some(path) = self.path(key, "tokens") else { return (None, None) };
        match self.open(&path, key, sources) {
            Ok(store) => (store, None),
            Err(problem) => {
                let note = format!("token cache: {} cannot be used ({problem}) and is made again", path.display());
                (None, Some(note))
            }
        }
    }

    fn open(&self, path: &Path, key: &Hash, sources: &Sources) -> Result<Option<GroupStore>, String> {
        let file = match open_plain(path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let stamp = Stamp::new(&file.metadata().map_err(|error| error.to_string())?);
        let mut store = read(file, path, key, sources)?;
        let memo = self.path(key, "checked").map(Memo::new);
        let is_checked = memo.as_ref().and_then(Memo::read::<Stamp>) == Some(stamp);
        if is_checked {
            memo.iter().for_each(Memo::touch);
        } else {
            check_all(&store).map_err(|error| match error {
                StoreError::Damaged { what, .. } => what,
                error => error.to_string(),
            })?;
        }
        store.checked = memo;
        store.remember_checked(!is_checked);
        Ok(Some(store))
    }

    /// Begins a store; a line says so if it cannot be kept for later runs.
    pub(crate) fn writer(&self, key: Option<&Hash>) -> (Writer, Option<String>) {
        let private = || Writer::private(&self.spool);
        let Some((key, path)) = key.and_then(|key| Some((key, self.path(key, "tokens")?))) else {
            return (private(), None);
        };
        let created = self.make_room(&path).map_err(|error| error.to_string()).and_then(|()| {
            let file = AtomicFile::create(&path).map_err(|error| error.source.to_string())?;
            Writer::shared(*key, file, &self.spool).map_err(|error| error.source.to_string())
        });
        match created {
            Ok(writer) => (writer, None),
            Err(error) => {
                let folder = path.parent().unwrap_or(Path::new(".")).display();
                (private(), Some(format!("token cache: {folder}: {error}; tokens are kept for this run only")))
            }
        }
    }

    /// Keeps a store that was just written, and removes old ones.
    pub(crate) fn keep(&self, store: &mut GroupStore) {
        store.checked = self.path(&store.key, "checked").map(Memo::new);
        store.remember_checked(true);
        if let Some(path) = store.path() {
            // Best effort: it is tried again by the next run.
            let _ = self.make_room(path);
        }
    }

    /// Removes the stores that were not used for the longest time until those that are left are small enough, and what killed
    /// processes left behind. `kept` stays.
    fn make_room(&self, kept: &Path) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        fs::create_dir_all(folder)?;
        remove_leftovers_beside(kept);
        let (mut stores, mut memos) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(folder)? {
            let (path, now) = (entry?.path(), SystemTime::now());
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            let changed = metadata.modified().unwrap_or(now);
            match path.extension().and_then(|ending| ending.to_str()) {
                _ if !metadata.is_file() => {}
                Some("tokens") => {
                    let used = fs::metadata(path.with_extension("checked")).and_then(|memo| memo.modified());
                    stores.push((used.map_or(changed, |used| used.max(changed)), metadata.len(), path));
                }
                Some("content" | "checked" | "pair") => memos.push((changed, path)),
                _ => {}
            }
        }
        stores.sort();
        let mut total: u64 = stores.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in stores {
            if total <= self.max_bytes {
                break;
            }
            if path != kept && fs::remove_file(&path).is_ok() {
                let _ = fs::remove_file(path.with_extension("checked"));
                total -= bytes;
            }
        }
        memos.sort();
        let too_many = memos.len().saturating_sub(MAX_MEMOS);
        memos.iter().take(too_many).for_each(|(_, path)| _ = fs::remove_file(path));
        Ok(())
    }

    /// A hash of the tokens and rewards of training data and held-out data, remembered for stores that are kept.
    ///
    /// # Errors
    /// A store cannot be read.
    pub fn content_hash(&self, training: &GroupStore, held_out: Option<&GroupStore>) -> Result<Hash, StoreError> {
        let damaged = |_| training.damaged("its facts do not hold a hash".to_owned());
        let Some(held_out) = held_out else {
            return Hash::from_hex(training.facts.content.as_bytes()).map_err(damaged);
        };
        let mut pair = blake3::Hasher::new();
        pair.update(training.facts.content.as_bytes()).update(held_out.facts.content.as_bytes());
        let memo = self.path(&pair.finalize(), "pair").map(Memo::new);
        if let Some(known) = memo.as_ref().and_then(Memo::read::<String>)
            && let Ok(hash) = Hash::from_hex(known.as_bytes())
        {
            return Ok(hash);
        }
        let mut hasher = blake3::Hasher::new();
        training.hash_into(&mut hasher, 0)?;
        held_out.hash_into(&mut hasher, 1)?;
        let hash = hasher.finalize();
        memo.iter().for_each(|memo| memo.write(&hash.to_hex().as_str()));
        Ok(hash)
    }
}

/// Reads everything but the groups.
fn read(file: File, path: &Path, key: &Hash, sources: &Sources) -> Result<GroupStore, String> {
    let failed = |error: io::Error| error.to_string();
    let len = file.metadata().map_err(failed)?.len();
    let (mut header, mut trailer) = ([0; HEADER_BYTES as usize], [0; TRAILER_BYTES]);
    let at = len.checked_sub(TRAILER_BYTES as u64).filter(|at| *at >= HEADER_BYTES).ok_or("it is too short")?;
    read_exact_at(&file, &mut header, 0).map_err(failed)?;
    read_exact_at(&file, &mut trailer, at).map_err(failed)?;
    if &header[..32] != MAGIC || &header[32..] != key.as_bytes() {
        return Err("it is the store of something else".to_owned());
    }
    let lengths = Lengths::from_trailer(&trailer, len).filter(|lengths| lengths.facts <= MAX_FACTS_BYTES);
    let lengths = lengths.ok_or("it was cut off or has another end")?;
    let mut text = vec![0; lengths.facts as usize];
    read_exact_at(&file, &mut text, lengths.facts_at()).map_err(failed)?;
    if lengths.trailer(key, &text) != trailer {
        return Err("its end does not have its checksum".to_owned());
    }
    let facts: Facts = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    if facts.starts.len() != sources.paths.len() {
        return Err("it has another number of files".to_owned());
    }
    let body = Body::Shared { file, path: path.to_owned() };
    Ok(GroupStore::new(*key, body, lengths, facts, sources))
}

/// Reads every group, on all cores.
fn check_all(store: &GroupStore) -> Result<(), StoreError> {
    let parts: Vec<usize> = (0..store.len()).step_by(CHECKED_AT_ONCE).collect();
    parts.into_par_iter().try_for_each(|start| {
        let end = (start + CHECKED_AT_ONCE).min(store.len());
        GroupScan::new(store, start..end).try_for_each(|group| group.map(drop))
    })
}
