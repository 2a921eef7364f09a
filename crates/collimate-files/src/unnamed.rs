//! Files without a name, for what does not fit into memory.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::{WriteError, folder_of};

/// Where a file without a name is kept, and what it is called in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScratchFolder {
    folder: PathBuf,
    name: PathBuf,
}

impl ScratchFolder {
    /// On the disk of an output that is written later, whose name messages give.
    pub fn beside(output: &Path) -> Self {
        Self { folder: folder_of(output).to_owned(), name: output.to_owned() }
    }

    /// In the system's folder for temporary files, which messages name.
    pub fn temporary() -> Self {
        Self { folder: std::env::temp_dir(), name: std::env::temp_dir() }
    }

    /// What messages name.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// A file that no other process can open. Its space is free again once it is closed, however this process ends.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn file(&self) -> Result<File, WriteError> {
        tempfile::tempfile_in(&self.folder).map_err(WriteError::at(&self.name))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    #[test]
    fn it_can_be_read_back_and_nobody_sees_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut file = ScratchFolder::beside(&folder.path().join("out.jsonl")).file().expect("a file");
        file.write_all(b"rows").expect("written");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
        file.rewind().expect("the start");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("read");
        assert_eq!(text, "rows");
        let missing = folder.path().join("missing/out.jsonl");
        let error = ScratchFolder::beside(&missing).file().expect_err("no folder").to_string();
        assert!(error.contains("missing/out.jsonl: cannot be written"), "{error}");
    }

    #[test]
    fn an_output_without_a_folder_is_here() {
        assert_eq!(ScratchFolder::beside(Path::new("out")).folder, Path::new("."));
    }
}
