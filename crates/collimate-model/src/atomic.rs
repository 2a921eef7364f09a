//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::ModelError;

/// A file written beside its place, under a hidden name, until it is committed; removed if it never is.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    committed: bool,
}

impl AtomicFile {
    /// Begins the file that is to be at `path`; its folder must exist.
    pub(crate) fn create(path: &Path) -> Result<Self, ModelError> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
        let file = File::create(&temporary).map_err(ModelError::io(&temporary))?;
        Ok(Self { file, temporary, path: path.to_owned(), committed: false })
    }

    /// Syncs the contents, renames the file to its place and syncs the folder.
    pub(crate) fn commit(mut self) -> Result<(), ModelError> {
        self.file.sync_all().map_err(ModelError::io(&self.temporary))?;
        fs::rename(&self.temporary, &self.path).map_err(ModelError::io(&self.path))?;
        self.committed = true;
        // Folders can be synced on Unix only; elsewhere the rename is as durable as the system makes it.
        #[cfg(unix)]
        if let Some(dir) = self.path.parent() {
            let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(ModelError::io(dir))?;
        }
        Ok(())
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
            // Nothing to tell: the file was never promised.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Writes a small file whole.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes).map_err(ModelError::io(path))?;
    file.commit()
}
