//! Writing so that nothing is lost: files and folders that appear whole or not at all, locks, checksums.
//!
//! Everything is written under a hidden name beside its place, synced, and renamed. A process that is killed leaves at
//! most hidden leftovers, which [`remove_leftovers`] finds by their names.

mod atomic;
mod checksums;
mod error;
mod lock;
mod plain;
mod shard_size;
mod staged;

pub use atomic::{AtomicFile, write_atomically};
pub use checksums::{CHECKSUMS_FILE, verify_checksums, write_checksums};
pub use error::WriteError;
pub use lock::{FolderLock, LockError};
pub use plain::{open_regular, read_text};
pub use shard_size::{ShardSize, ShardSizeError};
pub use staged::{StagedFolder, recover_folders, remove_folder, remove_leftovers};

use std::fs::File;
use std::path::Path;

/// Ending of everything that is not yet, or no longer, in its place.
const LEFTOVER: &str = ".tmp";

/// A hidden name beside `name` that no other process uses.
fn hidden(name: &str) -> String {
    format!(".{name}.{}{LEFTOVER}", std::process::id())
}

/// The last part of a path as text.
fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The folder that a path lies in.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes renames in a folder durable. Folders can be synced on Unix only; elsewhere a rename is as durable as the system
/// makes it.
fn sync_folder(folder: &Path) -> Result<(), WriteError> {
    if cfg!(unix) {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(WriteError::of(folder))?;
    }
    Ok(())
}
