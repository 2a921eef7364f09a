//! Locks that let one process at a time write to a folder.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::WriteError;
use crate::plain::update_plain;
use crate::same::is_there;
use crate::temporary::is_at;

const LOCK_FILE: &str = ".lock";
/// Bytes of a lock file: a process id and a newline.
const MAX_LOCK_BYTES: u64 = 16;

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
    /// [`LockError::Taken`] if another process holds it, [`LockError::Write`] if it is not writable or has something else
    /// under the lock file's name.
    pub fn acquire(folder: &Path) -> Result<Self, LockError> {
        let is_new = !folder.exists();
        fs::create_dir_all(folder).map_err(|error| WriteError::at(folder)(in_the_way(folder).unwrap_or(error)))?;
        let path = folder.join(LOCK_FILE);
        let failed = |source| WriteError::at(folder)(source);
        loop {
            let opened = update_plain(&path);
            // A folder that cannot be written is named; of one that can, what is in the way.
            let mut file = opened.map_err(|error| match fs::symlink_metadata(&path) {
                Ok(_) => WriteError::at(&path)(error),
                Err(_) => failed(error),
            })?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    // The process id is a courtesy; the message stands without it.
                    let process = process_of(&mut file).unwrap_or_default();
                    return Err(LockError::Taken { path: folder.to_owned(), process });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error).into()),
            }
            // Its previous owner may have removed the file between our opening and locking it.
            if !is_at(&file, &path) {
                continue;
            }
            // Somebody else's file of this name is neither written nor removed.
            process_of(&mut file).map_err(WriteError::at(&path))?;
            // From here on it is removed when dropped, as on a full disk.
            let mut lock = Self { file, path, folder: folder.to_owned(), unused: is_new };
            let number = format!("{}\n", std::process::id());
            lock.file.set_len(0).and_then(|()| lock.file.seek(SeekFrom::Start(0))).map_err(failed)?;
            lock.file.write_all(number.as_bytes()).map_err(failed)?;
            return Ok(lock);
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

/// What keeps a folder from being created, if something else has its name or that of one around it.
fn in_the_way(folder: &Path) -> Option<io::Error> {
    let taken = folder.ancestors().find(|path| is_there(path))?;
    (!taken.is_dir()).then(|| io::Error::other(format!("{} is not a folder", taken.display())))
}

/// The process that a lock file names; `None` if it is empty, as its first moment leaves it.
fn process_of(file: &mut File) -> io::Result<Option<u32>> {
    let mut text = String::new();
    file.take(MAX_LOCK_BYTES + 1).read_to_string(&mut text)?;
    match text.trim() {
        "" => Ok(None),
        number => number.parse().map(Some).map_err(|_| io::Error::other("it is not the lock file of a run")),
    }
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

    #[test]
    fn what_is_no_folder_is_named() {
        let around = tempfile::tempdir().expect("a temporary folder");
        let file = around.path().join("file");
        fs::write(&file, "").expect("a file");
        for folder in [file.clone(), file.join("run")] {
            let error = FolderLock::acquire(&folder).expect_err("a file").to_string();
            let expected = format!("{}: cannot be written: {} is not a folder", folder.display(), file.display());
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn a_file_of_that_name_that_is_no_lock_stays_as_it_is() {
        let around = tempfile::tempdir().expect("a temporary folder");
        let path = around.path().join(LOCK_FILE);
        fs::write(&path, "dependencies: none\n").expect("a file");
        let error = FolderLock::acquire(around.path()).expect_err("no lock").to_string();
        assert!(error.contains(".lock: cannot be written: it is not the lock file of a run"), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("a file"), "dependencies: none\n");
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_written_through_the_lock_files_name() {
        let around = tempfile::tempdir().expect("a temporary folder");
        let (folder, victim) = (around.path().join("run"), around.path().join("victim"));
        fs::create_dir(&folder).expect("a folder");
        let path = folder.join(LOCK_FILE);
        for hard in [false, true] {
            fs::write(&victim, "").expect("a file");
            match hard {
                true => fs::hard_link(&victim, &path).expect("a link"),
                false => std::os::unix::fs::symlink(&victim, &path).expect("a link"),
            }
            let error = FolderLock::acquire(&folder).expect_err("a link").to_string();
            assert!(error.contains(".lock: cannot be written: it "), "{error}");
            assert_eq!(fs::read(&victim).expect("a file"), b"");
            fs::remove_file(&path).expect("the link is still there");
        }
        assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        assert!(FolderLock::acquire(&folder).is_err());
    }
}
