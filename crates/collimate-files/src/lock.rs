//! Locks that let one process at a time write to a folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::WriteError;

const LOCK_FILE: &str = ".lock";

/// Why a folder cannot be locked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process holds the lock.
    #[error("{}: another run is writing here{}; wait for it to end, or choose another folder", path.display(), in_words(.process))]
    Taken {
        /// The folder.
        path: PathBuf,
        /// The other process's id, as it wrote it into the lock file.
        process: Option<u32>,
    },
    /// The folder or its lock file is not writable.
    #[error(transparent)]
    Write(#[from] WriteError),
}

fn in_words(process: &Option<u32>) -> String {
    process.map(|process| format!(" (process {process})")).unwrap_or_default()
}

/// Keeps other processes out of a folder while it lives. The operating system releases the lock of a killed process.
#[derive(Debug)]
pub struct FolderLock {
    file: File,
    path: PathBuf,
    folder: PathBuf,
    /// The folder was created for this lock and nothing has been written to it yet.
    unused: bool,
}

impl FolderLock {
    /// Locks the folder, creating it if necessary.
    ///
    /// # Errors
    /// [`LockError::Taken`] if another process holds it, [`LockError::Write`] if it is not writable.
    pub fn acquire(folder: &Path) -> Result<Self, LockError> {
        let is_new = !folder.exists();
        fs::create_dir_all(folder).map_err(WriteError::of(folder))?;
        let path = folder.join(LOCK_FILE);
        let failed = |source| WriteError::of(folder)(source);
        loop {
            let mut options = OpenOptions::new();
            let mut file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut text = String::new();
                    // The process id is a courtesy; the message stands without it.
                    let _ = file.read_to_string(&mut text);
                    return Err(LockError::Taken { path: folder.to_owned(), process: text.trim().parse().ok() });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error).into()),
            }
            // Its previous owner may have removed the file between our opening and locking it.
            if !is_at(&file, &path) {
                continue;
            }
            let number = format!("{}\n", std::process::id());
            file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(failed)?;
            file.write_all(number.as_bytes()).map_err(failed)?;
            return Ok(Self { file, path, folder: folder.to_owned(), unused: is_new });
        }
    }

    /// The locked folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps the folder when the lock is dropped, even if it is still empty.
    pub fn keep_folder(&mut self) {
        self.unused = false;
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Removed while still locked: anyone who opened it before sees (by `is_at`) that it is no longer the lock file.
        // Failing to remove it costs a hidden file.
        let _ = fs::remove_file(&self.path);
        let _ = self.file.unlock();
        if self.unused {
            // The run never began; succeeds only if the folder is empty.
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// Whether the open file is still the one at the path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(a), Ok(b)) if same(&a, &b))
}

/// Other systems do not let an open file be removed.
#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner_at_a_time() {
        let around = tempfile::tempdir().expect("a temporary folder");
        let folder = around.path().join("run");
        let lock = FolderLock::acquire(&folder).expect("a lock");
        let error = FolderLock::acquire(&folder).expect_err("taken").to_string();
        assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
        drop(lock);
        FolderLock::acquire(&folder).expect("free again");
    }

    #[test]
    fn an_unused_folder_is_removed_again_and_a_used_one_stays() {
        let around = tempfile::tempdir().expect("a temporary folder");
        let folder = around.path().join("run");
        drop(FolderLock::acquire(&folder).expect("a lock"));
        assert!(!folder.exists());
        let mut lock = FolderLock::acquire(&folder).expect("a lock");
        lock.keep_folder();
        drop(lock);
        assert!(folder.is_dir() && fs::read_dir(&folder).expect("a folder").count() == 0);
        drop(FolderLock::acquire(&folder).expect("a lock"));
        assert!(folder.is_dir());
    }

    #[test]
    fn the_lock_file_of_a_killed_process_does_not_lock() {
        let around = tempfile::tempdir().expect("a temporary folder");
        fs::write(around.path().join(LOCK_FILE), "12345\n").expect("a file");
        FolderLock::acquire(around.path()).expect("free");
    }
}
