//! Writes that survive a kill: files and folders that appear complete or not at all, folder locks, checksums.
//!
//! Everything is written under a hidden name next to its final path, synced, and renamed. A killed process leaves at
//! most hidden leftovers, which [`remove_leftovers`] tells from what a living process writes: that is locked.
//!
//! Nothing is written through a link, and nothing but a plain file is replaced. A folder that a user names may be reached by
//! one; what is inside is opened by [`open_plain`], [`append_plain`] and their like. What a verb's `--output` may be is
//! decided by [`check_output`] for files and [`OutputFolder`] for folders.
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
//! assert_eq!(verify_checksums(&around.path().join("checkpoint-1"), &["state.json"]), Ok(()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod atomic;
mod checksums;
mod error;
mod hidden_name;
mod input;
mod lock;
mod output;
mod output_file;
mod output_folder;
mod plain;
mod positioned;
mod same;
mod shard_size;
mod space;
mod spool;
mod staged;
mod temporary;
mod unnamed;
mod whole_folder;

pub use atomic::{AtomicFile, write_atomically};
pub use checksums::{CHECKSUMS_FILE, check_sealed, verify_checksums, write_checksums};
pub use error::WriteError;
pub use input::open_input;
pub use lock::{FolderLock, LockError};
pub use output::{OutputError, check_output};
pub use output_file::{OutputFile, append_output, write_output};
pub use output_folder::{FolderError, OutputFolder};
pub use plain::{
    append_plain, check_plain, create_plain, open_plain, open_regular, plain_folder, read_bytes, read_plain, read_text,
    update_plain,
};
pub use positioned::{read_exact_at, write_all_at};
pub use same::is_there;
pub use shard_size::{ShardSize, ShardSizeError};
pub use space::{folder_bytes, free_space};
pub use spool::{Spool, SpoolFolder};
pub use staged::{StagedFolder, remove_sealed};
pub use temporary::{recover_folders, remove_leftovers, remove_leftovers_beside};
pub use unnamed::ScratchFolder;
pub use whole_folder::WholeFolder;

use std::fs::File;
use std::path::Path;

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
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(WriteError::at(folder))?;
    }
    Ok(())
}
