//! A repository's folder in the cache, laid out as Python's `huggingface_hub` does.
//!
//! ```text
//! models--org--name/blobs/ETAG              the bytes of a file
//! models--org--name/blobs/ETAG.incomplete   those that have arrived so far
//! models--org--name/snapshots/COMMIT/FILE   a link to the bytes
//! models--org--name/refs/REVISION           the commit
//! .locks/models--org--name/ETAG.lock        held by the process that downloads it
//! ```

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use collimate_files::{read_text, update_plain, write_atomically};

use crate::{HubName, HubOptions, RepoKind};

/// Size limit of a file that holds a commit.
const MAX_REF_BYTES: u64 = 1000;

/// The cached files of a repository.
#[derive(Debug)]
pub(crate) struct RepoCache {
    root: PathBuf,
    locks: PathBuf,
    revision: String,
}

impl RepoCache {
    pub(crate) fn new(options: &HubOptions, name: &HubName) -> Self {
        let kind = match name.kind {
            RepoKind::Model => "models",
            RepoKind::Dataset => "datasets",
        };
        let folder = format!("{kind}--{}", name.id.replace('/', "--"));
        Self {
            root: options.cache.join(&folder),
            locks: options.cache.join(".locks").join(&folder),
            revision: name.revision.clone(),
        }
    }

    pub(crate) fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// Where the bytes of a file stand until all of them are there.
    pub(crate) fn partial(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(format!("{etag}.incomplete"))
    }

    /// Gives bytes that are all there their name.
    pub(crate) fn complete(&self, etag: &str) -> io::Result<()> {
        fs::rename(self.partial(etag), self.blob(etag))
    }

    /// Removes bytes that have no use.
    pub(crate) fn forget(&self, etag: &str) {
        let _ = fs::remove_file(self.partial(etag));
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// The commit that the revision had when it was last asked for.
    pub(crate) fn commit(&self) -> Option<String> {
        let text = read_text(&self.root.join("refs").join(&self.revision), MAX_REF_BYTES).ok()?;
        Some(text.trim().to_owned())
    }

    /// Makes cached bytes appear as a file of a commit, and notes the revision's commit.
    pub(crate) fn link(&self, etag: &str, commit: &str, file: &str) -> io::Result<PathBuf> {
        let pointer = self.snapshot(commit).join(file);
        fs::create_dir_all(pointer.parent().unwrap_or(&self.root))?;
        if !pointer.is_file() {
            // A link whose bytes are gone.
            if fs::symlink_metadata(&pointer).is_ok_and(|found| found.is_symlink()) {
                fs::remove_file(&pointer)?;
            }
            match self.link_to(etag, file, &pointer) {
                // Another process was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => result?,
            }
        }
        if self.revision != commit {
            let noted = self.root.join("refs").join(&self.revision);
            fs::create_dir_all(noted.parent().unwrap_or(&self.root))?;
            write_atomically(&noted, commit.as_bytes()).map_err(|error| error.source)?;
        }
        Ok(pointer)
    }

    /// The link is relative, so that the cache may be moved.
    #[cfg(unix)]
    fn link_to(&self, etag: &str, file: &str, pointer: &Path) -> io::Result<()> {
        let up = "../".repeat(2 + Path::new(file).components().count() - 1);
        std::os::unix::fs::symlink(format!("{up}blobs/{etag}"), pointer)
    }

    #[cfg(not(unix))]
    fn link_to(&self, etag: &str, _file: &str, pointer: &Path) -> io::Result<()> {
        fs::copy(self.blob(etag), pointer).map(|_| ())
    }

    /// Tries to become the process that downloads these bytes; `None` if another one does. The lock ends with the returned
    /// file, or with the process.
    pub(crate) fn try_lock(&self, etag: &str) -> io::Result<Option<File>> {
        fs::create_dir_all(&self.locks)?;
        fs::create_dir_all(self.root.join("blobs"))?;
        let file = update_plain(&self.locks.join(format!("{etag}.lock")))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            // Some network file systems have no locks; what two processes might mix there does not pass its hash.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(Some(file)),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}
