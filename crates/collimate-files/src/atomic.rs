//! Files that appear complete or not at all.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::plain::check_plain;
use crate::temporary::create_file;
use crate::{WriteError, folder_of, sync_folder};

/// A file that is written under a hidden name and renamed to its path on [`commit`](Self::commit); dropping it
/// uncommitted deletes it. It takes the place of a plain file or of nothing: never that of a link, a device or a pipe.
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    committed: bool,
}

impl AtomicFile {
    /// Starts writing the file that will appear at `path`; its folder must exist.
    ///
    /// # Errors
    /// The folder does not exist or is not writable, or something else than a plain file has the name.
    pub fn create(path: &Path) -> Result<Self, WriteError> {
        // The hidden name would mean nothing to the user, so the error names the requested path.
        let (file, temporary) = check_plain(path).and_then(|()| create_file(path)).map_err(WriteError::at(path))?;
        Ok(Self { file, temporary, path: path.to_owned(), committed: false })
    }

    /// The path the file will have once committed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the file is until it is committed, for reading it back.
    pub fn written_at(&self) -> &Path {
        &self.temporary
    }

    /// Opens the file for reading; it stays open when the file gets its path.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn reader(&self) -> io::Result<File> {
        File::open(&self.temporary)
    }

    /// Syncs the contents, renames the file to its path and syncs the folder.
    ///
    /// # Errors
    /// The disk is full or a folder occupies the path; an existing file stays as it was.
    pub fn commit(mut self) -> Result<(), WriteError> {
        self.file.sync_all().and_then(|()| check_plain(&self.path)).map_err(WriteError::at(&self.path))?;
        fs::rename(&self.temporary, &self.path).map_err(WriteError::at(&self.path))?;
        self.committed = true;
        sync_folder(folder_of(&self.path))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.committed {
            // Best effort: this file was never promised, and `remove_leftovers` finds it later.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Writes `bytes` to `path` atomically; meant for small files.
///
/// # Errors
/// The file cannot be written; an existing file stays as it was.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes).map_err(WriteError::at(path))?;
    file.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_file_replaces_the_old_one_only_on_commit() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("file");
        write_atomically(&path, b"old").expect("a file");
        let mut file = AtomicFile::create(&path).expect("a file");
        file.write_all(b"new").expect("bytes");
        assert_eq!(fs::read(&path).expect("the old file"), b"old");
        file.commit().expect("a commit");
        assert_eq!(fs::read(&path).expect("the new file"), b"new");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn a_dropped_file_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        drop(AtomicFile::create(&folder.path().join("file")).expect("a file"));
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn errors_name_the_requested_path() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("missing/file");
        let error = write_atomically(&path, b"").expect_err("no folder");
        assert_eq!(error.path, path);
    }
}
