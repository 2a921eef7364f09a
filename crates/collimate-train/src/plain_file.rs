//! Text files that a run reads back, opened only where they are regular files and of a size that such a file can have.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// The text of a regular file of at most `limit` bytes; a device or a pipe would never end.
///
/// # Errors
/// As reading; also where it is no regular file, is larger, or is not UTF-8.
pub(crate) fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    // Looked at before it is opened: opening a named pipe waits for its other end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    // The file may grow while it is read.
    File::open(path)?.take(limit + 1).read_to_string(&mut text)?;
    match text.len() as u64 > limit {
        true => Err(io::Error::other(format!("it has more than {limit} bytes, which no such file needs"))),
        false => Ok(text),
    }
}
