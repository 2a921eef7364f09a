//! Text files that a run reads back, opened only where they are regular files and of a size that such a file can have.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Opens a regular file.
///
/// # Errors
/// As opening; also where it is no regular file.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // Looked at before it is opened: opening a named pipe waits for its other end.
    match fs::metadata(path)?.is_file() {
        true => File::open(path),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// The text of a regular file of at most `limit` bytes; a device or a pipe would never end.
///
/// # Errors
/// As reading; also where it is no regular file, is larger, or is not UTF-8.
pub(crate) fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    // The file may grow while it is read.
    open(path)?.take(limit + 1).read_to_string(&mut text)?;
    match text.len() as u64 > limit {
        true => Err(io::Error::other(format!("it has more than {limit} bytes, which no such file needs"))),
        false => Ok(text),
    }
}
