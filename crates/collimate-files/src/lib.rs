//! Writes that survive a kill: files and folders that appear complete or not at all, folder locks, checksums.
//!
//! Everything is written under a hidden name next to its final path, synced, and renamed. A killed process leaves at
//! most hidden leftovers, which [`remove_leftovers`] recognises by name.
//!
//! Read [`AtomicFile`], [`StagedFolder`] and [`FolderLock`] first. The crate must not know what is in the files.
//!
//! ```
//! use std::io::Write;
//!
//! use collimate_files::{AtomicFile, StagedFolder, verify_checksums, write_checksums};
//!
//! let around = tempfile::tempdir()?;
//! let path = around.path().join("metrics.json");
//! let mut file = AtomicFile::create(&path)?;
//! file.write_all(b"{}")?;
//! assert!(!path.exists());
//! file.commit()?;
//! assert!(path.exists());
//!
//! // A folder whose files are checksummed before anyone can see it.
//! let staged = StagedFolder::create(&around.path().join("checkpoint-1"))?;
//! std::fs::write(staged.staging().join("state.json"), "{}")?;
//! write_checksums(staged.staging())?;
//! staged.commit()?;
//! assert_eq!(verify_checksums(&around.path().join("checkpoint-1")), Ok(()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod atomic;
mod checksums;
mod error;
mod lock;
mod output;
mod plain;
mod shard_size;
mod space;
mod staged;

pub use atomic::{AtomicFile, write_atomically};
pub use checksums::{CHECKSUMS_FILE, verify_checksums, write_checksums};
pub use error::WriteError;
pub use lock::{FolderLock, LockError};
pub use output::{OutputError, check_output};
pub use plain::{open_regular, read_text};
pub use shard_size::{ShardSize, ShardSizeError};
pub use space::{folder_bytes, free_space};
pub use staged::{StagedFolder, recover_folders, remove_folder, remove_leftovers};

use std::fs::File;
use std::path::Path;

/// Suffix of everything that is not yet, or no longer, under its final name.
const LEFTOVER: &str = ".tmp";

/// A hidden name derived from `name` and the process id, so that no other process uses it.
fn hidden(name: &str) -> String {
    format!(".{name}.{}{LEFTOVER}", std::process::id())
}

/// The last component of a path, as text.
fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The folder containing the path.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes renames in a folder durable. Only Unix can sync a folder; elsewhere durability is up to the system.
fn sync_folder(folder: &Path) -> Result<(), WriteError> {
    if cfg!(unix) {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(WriteError::of(folder))?;
    }
    Ok(())
}
