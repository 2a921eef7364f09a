//! Reads the small text files that a run leaves behind.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Opens a regular file; a link to one is followed.
///
/// # Errors
/// Opening it fails, or the path is not a regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // Checked before opening: opening a named pipe blocks until its other end is opened.
    match fs::metadata(path)?.is_file() {
        true => File::open(path),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// Reads a regular file of at most `limit` bytes as text.
///
/// # Errors
/// Reading it fails, the path is not a regular file, the file is larger, or its text is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    // The length is taken from what was read, since the file may grow meanwhile.
    open_regular(path)?.take(limit + 1).read_to_string(&mut text)?;
    match text.len() as u64 > limit {
        true => Err(io::Error::other(format!("it has more than {limit} bytes, which no such file needs"))),
        false => Ok(text),
    }
}
