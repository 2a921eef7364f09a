//! Where a run may put a file without a name, for the inputs of blocks.

use std::path::{Path, PathBuf};

use collimate_files::{SpoolFolder, free_space};

/// Space that the file leaves free for what the run and others write meanwhile.
const LEFT_FREE: u64 = 64 << 20;

/// The folders in which a run may put a file without a name, the first choice first.
#[derive(Debug, Clone)]
pub struct InputFolders(Vec<PathBuf>);

impl InputFolders {
    /// The run's own, then that of temporary files.
    pub fn of_run(output_dir: &Path) -> Self {
        Self(vec![output_dir.to_owned(), SpoolFolder::default().folder().to_owned()])
    }

    /// The first with room for so many bytes at the moment. One whose system does not say has none.
    pub fn with_room(&self, bytes: u64) -> Option<&Path> {
        let has_room =
            |folder: &&PathBuf| free_space(folder).is_some_and(|free| free >= bytes.saturating_add(LEFT_FREE));
        self.0.iter().find(has_room).map(PathBuf::as_path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_room_is_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let folders = InputFolders::of_run(&folder.path().join("run"));
        assert_eq!(folders.with_room(1), Some(folder.path().join("run").as_path()));
        assert_eq!(folders.with_room(u64::MAX), None);
    }
}
