//! One process a folder.

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
    /// Another process holds it.
    #[error("{}: another run is writing here{}; wait for it to end, or choose another folder", path.display(), of(.process))]
    Taken {
        /// The folder.
        path: PathBuf,
        /// The other process's number, as it wrote it.
        process: Option<u32>,
    },
    /// The folder or its lock file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

fn of(process: &Option<u32>) -> String {
    process.map(|process| format!(" (process {process})")).unwrap_or_default()
}

/// A folder that no other process may write to as long as this lives. A process that is killed holds it no longer.
#[derive(Debug)]
pub struct FolderLock {
    file: File,
    path: PathBuf,
    folder: PathBuf,
    /// Whether the folder was made for this lock and nothing was written into it yet.
    unused: bool,
}

impl FolderLock {
    /// Makes the folder where it is not there, and locks it.
    ///
    /// # Errors
    /// [`LockError::Taken`] where another process holds it, [`LockError::Write`] where it cannot be written.
    pub fn acquire(folder: &Path) -> Result<Self, LockError> {
        let made = !folder.exists();
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
                    // Who it is helps the user; without the number the message still holds.
                    let _ = file.read_to_string(&mut text);
                    return Err(LockError::Taken { path: folder.to_owned(), process: text.trim().parse().ok() });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error).into()),
            }
            // The file may have been removed by its last owner between opening and locking.
            if !is_at(&file, &path) {
                continue;
            }
            let number = format!("{}\n", std::process::id());
            file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(failed)?;
            file.write_all(number.as_bytes()).map_err(failed)?;
            return Ok(Self { file, path, folder: folder.to_owned(), unused: made });
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Says that the folder is in use from now on: it stays when the lock goes, even without files.
    pub fn keep_folder(&mut self) {
        self.unused = false;
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Removed while it is held: who opens it afterwards sees that it is another file. Failing costs a hidden file.
        let _ = fs::remove_file(&self.path);
        let _ = self.file.unlock();
        if self.unused {
            // A folder that was made for a run that never began, if nothing is in it.
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// Whether the open file is the one at the path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(a), Ok(b)) if same(&a, &b))
}

/// Elsewhere a file that is open cannot be removed.
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
    fn a_folder_that_was_not_used_is_gone_again_and_a_used_one_stays() {
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
    fn what_a_killed_process_left_is_no_lock() {
        let around = tempfile::tempdir().expect("a temporary folder");
        fs::write(around.path().join(LOCK_FILE), "12345\n").expect("a file");
        FolderLock::acquire(around.path()).expect("free");
    }
}
