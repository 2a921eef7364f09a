//! Folders that appear complete or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::hidden_name::{hidden, hidden_replaced};
use crate::same::is_there;
use crate::temporary::create_folder;
use crate::{WriteError, check_sealed, folder_of, name_of, sync_folder};

/// A folder that is filled under a hidden name and renamed to its path on [`commit`](Self::commit) or
/// [`replace`](Self::replace); dropping it uncommitted deletes it.
#[derive(Debug)]
pub struct StagedFolder {
    staging: PathBuf,
    path: PathBuf,
    committed: bool,
    /// Tells others that this process still writes there.
    _lock: Option<File>,
}

impl StagedFolder {
    /// Starts the folder that will appear at `path`; its parent must exist.
    ///
    /// # Errors
    /// The parent is not writable.
    pub fn create(path: &Path) -> Result<Self, WriteError> {
        let (lock, staging) = create_folder(path).map_err(WriteError::at(path))?;
        Ok(Self { staging, path: path.to_owned(), committed: false, _lock: lock })
    }

    /// The hidden folder to write the files to.
    pub fn staging(&self) -> &Path {
        &self.staging
    }

    /// Renames the folder to its path, where nothing may be but an empty folder. The caller must have synced its files.
    ///
    /// # Errors
    /// Something is there, or the rename fails.
    pub fn commit(mut self) -> Result<(), WriteError> {
        sync_folder(&self.staging)?;
        // The system renames a folder onto an empty one, but not onto a file, a link or a folder that holds something.
        fs::rename(&self.staging, &self.path).map_err(WriteError::at(&self.path))?;
        self.committed = true;
        sync_folder(folder_of(&self.path))
    }

    /// Like [`commit`](Self::commit), but an earlier folder of the same kind may be there and is replaced: one that passes
    /// [`check_sealed`] with these `known` names.
    ///
    /// # Errors
    /// Something else is there, or a rename fails. [`recover_folders`](crate::recover_folders) restores the old folder after a
    /// kill between the two renames.
    pub fn replace<S: AsRef<str>>(self, known: &[S]) -> Result<(), WriteError> {
        if !is_there(&self.path) {
            return self.commit();
        }
        let path = self.path.clone();
        check_sealed(&path, known).map_err(|message| WriteError::at(&path)(io::Error::other(message)))?;
        sync_folder(&self.staging)?;
        let old = path.with_file_name(hidden_replaced(&name_of(&path)));
        fs::rename(&path, &old).map_err(WriteError::at(&path))?;
        self.commit()?;
        fs::remove_dir_all(&old).map_err(WriteError::at(&old))
    }
}

impl Drop for StagedFolder {
    fn drop(&mut self) {
        if !self.committed {
            // Best effort: this folder was never promised, and `remove_leftovers` finds it later.
            let _ = fs::remove_dir_all(&self.staging);
        }
    }
}

/// Removes a folder that passes [`check_sealed`], without ever showing it half-emptied: it is renamed to a hidden name first.
///
/// # Errors
/// It is not such a folder, or cannot be renamed or removed.
pub fn remove_sealed<S: AsRef<str>>(path: &Path, known: &[S]) -> Result<(), WriteError> {
    check_sealed(path, known).map_err(|message| WriteError::at(path)(io::Error::other(message)))?;
    let old = path.with_file_name(hidden(&format!("{}.removed", name_of(path))));
    fs::rename(path, &old).and_then(|()| fs::remove_dir_all(&old)).map_err(WriteError::at(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CHECKSUMS_FILE, write_checksums};

    const NONE: &[&str] = &[];

    fn text(path: &Path) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    fn staged(path: &Path, content: &str) -> StagedFolder {
        let staged = StagedFolder::create(path).expect("a folder");
        fs::write(staged.staging().join("file"), content).expect("a file");
        write_checksums(staged.staging()).expect("checksums");
        staged
    }

    #[test]
    fn a_folder_replaces_the_old_one_only_when_asked_to() {
        let around = tempfile::tempdir().expect("a temporary folder");
        let path = around.path().join("folder");
        staged(&path, "old").commit().expect("a commit");
        assert!(staged(&path, "new").commit().is_err(), "the old one is there");
        let new = staged(&path, "new");
        assert_eq!(text(&path.join("file")).as_deref(), Some("old"));
        new.replace(NONE).expect("a commit");
        assert_eq!(text(&path.join("file")).as_deref(), Some("new"));
        assert_eq!(fs::read_dir(around.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn an_empty_folder_is_no_obstacle() {
        let around = tempfile::tempdir().expect("a temporary folder");
        let path = around.path().join("folder");
        fs::create_dir(&path).expect("a folder");
        staged(&path, "new").commit().expect("a commit");
        assert_eq!(text(&path.join("file")).as_deref(), Some("new"));
    }

    /// A file, a folder of somebody's files, a checkpoint with somebody's file, and links to each.
    #[test]
    fn what_is_not_ours_is_neither_replaced_nor_removed() {
        let around = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| around.path().join(name);
        fs::write(at("checkpoint-1"), "notes").expect("a file");
        fs::create_dir(at("checkpoint-2")).expect("a folder");
        fs::write(at("checkpoint-2/notes"), "mine").expect("a file");
        for name in ["checkpoint-3", "checkpoint-4", "other"] {
            staged(&at(name), "ours").commit().expect("a folder");
        }
        fs::write(at("checkpoint-3/notes"), "mine").expect("a file");
        assert!(check_sealed(&at("checkpoint-3"), &["notes"]).is_ok());
        fs::create_dir(at("checkpoint-4/inner")).expect("a folder");
        let mut names = vec!["checkpoint-1", "checkpoint-2", "checkpoint-3", "checkpoint-4"];
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("other", at("checkpoint-5")).expect("a link");
            std::os::unix::fs::symlink("nowhere", at("checkpoint-6")).expect("a link");
            names.extend(["checkpoint-5", "checkpoint-6"]);
        }
        for name in names {
            assert!(staged(&at(name), "new").replace(NONE).is_err(), "{name}");
            assert!(remove_sealed(&at(name), NONE).is_err(), "{name}");
        }
        assert_eq!(text(&at("checkpoint-1")).as_deref(), Some("notes"));
        assert_eq!(text(&at("checkpoint-3/notes")).as_deref(), Some("mine"));
        assert_eq!(text(&at("other/file")).as_deref(), Some("ours"));
        assert!(fs::read_dir(around.path()).expect("a folder").flatten().all(|e| !name_of(&e.path()).starts_with('.')));
    }

    #[test]
    fn a_removed_folder_is_gone() {
        let around = tempfile::tempdir().expect("a temporary folder");
        let path = around.path().join("folder");
        staged(&path, "ours").commit().expect("a folder");
        // A torn list does not keep a damaged folder for ever.
        fs::write(path.join(CHECKSUMS_FILE), "{").expect("a file");
        remove_sealed(&path, NONE).expect("no folder");
        assert_eq!(fs::read_dir(around.path()).expect("a folder").count(), 0);
        assert_eq!(remove_sealed(&path, NONE).expect_err("nothing there").path, path);
    }
}
