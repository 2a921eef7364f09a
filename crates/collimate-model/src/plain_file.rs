//! Files of models and adapters, opened only where they are regular files and no larger than such a file can be.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::error::ModelError;

/// The largest configuration or index, in bytes. The index of a model of 61 layers with 256 experts has some 10 MB.
pub(crate) const MAX_JSON_BYTES: u64 = 64 << 20;

/// Opens a regular file; a link to one is followed. A device or a pipe would never end.
pub(crate) fn open(path: &Path) -> Result<File, ModelError> {
    // Looked at before it is opened: opening a named pipe waits for its other end.
    if !fs::metadata(path).map_err(ModelError::io(path))?.is_file() {
        return Err(ModelError::NotAFile { path: path.to_owned() });
    }
    File::open(path).map_err(ModelError::io(path))
}

/// The bytes of a regular file of at most `limit` bytes.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, ModelError> {
    let mut bytes = Vec::new();
    // The file may grow while it is read.
    open(path)?.take(limit + 1).read_to_end(&mut bytes).map_err(ModelError::io(path))?;
    match bytes.len() as u64 > limit {
        true => Err(ModelError::FileTooLarge { path: path.to_owned(), limit }),
        false => Ok(bytes),
    }
}

/// Whether a file of `dir` is there and stays with it: in the folder, or in the `blobs` beside the `snapshots` that the
/// folder is one of, where a download cache keeps what its folders link to.
///
/// A link elsewhere would make a private file part of what is written, and perhaps published.
pub(crate) fn stays_in(dir: &Path, file: &Path) -> bool {
    let (Ok(dir), Ok(file)) = (dir.canonicalize(), file.canonicalize()) else { return false };
    let snapshots = dir.parent().filter(|parent| parent.ends_with("snapshots"));
    let blobs = snapshots.and_then(Path::parent).map(|repository| repository.join("blobs"));
    file.starts_with(&dir) || blobs.is_some_and(|blobs| file.starts_with(blobs))
}
