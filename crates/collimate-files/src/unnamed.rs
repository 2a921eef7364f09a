//! Files without a name, for what does not fit into memory.

use std::fs::File;
use std::path::Path;

use crate::WriteError;

/// A file on the disk of `folder` that no other process can open. Its space is free again once it is closed, however this
/// process ends.
///
/// # Errors
/// The folder cannot be written.
pub fn unnamed_file(folder: &Path) -> Result<File, WriteError> {
    tempfile::tempfile_in(folder).map_err(WriteError::of(folder))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    #[test]
    fn it_can_be_read_back_and_nobody_sees_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut file = unnamed_file(folder.path()).expect("a file");
        file.write_all(b"rows").expect("written");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
        file.rewind().expect("the start");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("read");
        assert_eq!(text, "rows");
        assert!(unnamed_file(&folder.path().join("missing")).is_err());
    }
}
