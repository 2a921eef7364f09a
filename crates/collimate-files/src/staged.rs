//! Folders that appear complete or not at all, and clean-up after killed processes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{LEFTOVER, WriteError, folder_of, hidden, name_of, sync_folder};

/// Marks the old folder while a new one takes its place.
const REPLACED: &str = ".replaced";

/// A folder that is filled under a hidden name and renamed to its path on [`commit`](Self::commit); dropping it
/// uncommitted deletes it.
#[derive(Debug)]
pub struct StagedFolder {
    staging: PathBuf,
    path: PathBuf,
    committed: bool,
}

impl StagedFolder {
    /// Starts the folder that will appear at `path`; its parent must exist.
    ///
    /// # Errors
    /// The parent is not writable.
    pub fn create(path: &Path) -> Result<Self, WriteError> {
        let staging = path.with_file_name(hidden(&name_of(path)));
        match fs::create_dir(&staging) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_dir_all(&staging).and_then(|()| fs::create_dir(&staging))
            }
            result => result,
        }
        .map_err(WriteError::of(path))?;
        Ok(Self { staging, path: path.to_owned(), committed: false })
    }

    /// The hidden folder to write the files to.
    pub fn staging(&self) -> &Path {
        &self.staging
    }

    /// Renames the folder to its path, replacing an existing folder. The caller must have synced its files.
    ///
    /// # Errors
    /// A rename fails. [`recover_folders`] restores the old folder after a kill between the two renames.
    pub fn commit(mut self) -> Result<(), WriteError> {
        let failed = WriteError::of;
        sync_folder(&self.staging)?;
        let old = self.path.with_file_name(hidden(&format!("{}{REPLACED}", name_of(&self.path))));
        match fs::rename(&self.path, &old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&self.path)(error)),
            _ => {}
        }
        fs::rename(&self.staging, &self.path).map_err(failed(&self.path))?;
        self.committed = true;
        sync_folder(folder_of(&self.path))?;
        match fs::remove_dir_all(&old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&old)(error)),
            _ => Ok(()),
        }
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

/// Restores folders in `parent` whose replacement was interrupted by a kill, that is, whose path is empty. No other
/// process may be writing there.
///
/// # Errors
/// `parent` cannot be read, or a folder cannot be renamed.
pub fn recover_folders(parent: &Path) -> Result<(), WriteError> {
    if !parent.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(parent).map_err(WriteError::of(parent))? {
        let replaced = entry.map_err(WriteError::of(parent))?.path();
        let hidden = name_of(&replaced);
        let inner = hidden.strip_prefix('.').and_then(|name| name.strip_suffix(LEFTOVER));
        // The name ends in the process id.
        let name = inner.and_then(|name| name.rsplit_once('.')?.0.strip_suffix(REPLACED));
        let Some(path) = name.map(|name| parent.join(name)) else { continue };
        if !path.exists() {
            fs::rename(&replaced, &path).map_err(WriteError::of(&path))?;
        }
    }
    Ok(())
}

/// Removes a folder without ever showing it half-emptied: it is renamed to a hidden name first.
///
/// # Errors
/// The folder cannot be renamed or removed.
pub fn remove_folder(path: &Path) -> Result<(), WriteError> {
    let old = path.with_file_name(hidden(&format!("{}.removed", name_of(path))));
    fs::rename(path, &old).and_then(|()| fs::remove_dir_all(&old)).map_err(WriteError::of(path))
}

/// Removes the hidden leftovers of killed processes from a folder. No other process may be writing there.
///
/// # Errors
/// The folder cannot be read, or a leftover cannot be removed.
pub fn remove_leftovers(folder: &Path) -> Result<(), WriteError> {
    for entry in fs::read_dir(folder).map_err(WriteError::of(folder))? {
        let path = entry.map_err(WriteError::of(folder))?.path();
        let name = name_of(&path);
        if !(name.starts_with('.') && name.ends_with(LEFTOVER)) {
            continue;
        }
        let is_folder = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
        let removed = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(WriteError::of(&path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    #[test]
    fn a_folder_replaces_the_old_one_only_on_commit() {
        let around = tempfile::tempdir().expect("a temporary folder");
        let path = around.path().join("folder");
        for content in ["old", "new"] {
            let staged = StagedFolder::create(&path).expect("a folder");
            fs::write(staged.staging().join("file"), content).expect("a file");
            if content == "new" {
                assert_eq!(text(&path.join("file")).as_deref(), Some("old"));
            }
            staged.commit().expect("a commit");
        }
        assert_eq!(text(&path.join("file")).as_deref(), Some("new"));
        assert_eq!(fs::read_dir(around.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn leftovers_are_removed_and_everything_else_stays() {
        let around = tempfile::tempdir().expect("a temporary folder");
        let staged = StagedFolder::create(&around.path().join("folder")).expect("a folder");
        fs::write(staged.staging().join("file"), "half").expect("a file");
        // As after a kill: `drop` never runs.
        std::mem::forget(staged);
        for name in [".model.safetensors.1.tmp", "notes.tmp", ".hidden", "model.safetensors"] {
            fs::write(around.path().join(name), "").expect("a file");
        }
        remove_leftovers(around.path()).expect("a clean folder");
        let entries = fs::read_dir(around.path()).expect("a folder");
        let mut names: Vec<_> = entries.map(|entry| name_of(&entry.expect("an entry").path())).collect();
        names.sort();
        assert_eq!(names, [".hidden", "model.safetensors", "notes.tmp"]);
    }

    #[test]
    fn a_folder_whose_replacement_was_interrupted_comes_back() {
        let around = tempfile::tempdir().expect("a temporary folder");
        let path = around.path().join("checkpoint-3");
        fs::create_dir(&path).expect("a folder");
        fs::write(path.join("file"), "old").expect("a file");
        // Killed between the two renames.
        let old = around.path().join(hidden(&format!("checkpoint-3{REPLACED}")));
        fs::rename(&path, &old).expect("a rename");
        recover_folders(around.path()).expect("a folder");
        assert_eq!(text(&path.join("file")).as_deref(), Some("old"));
        // Killed after the second: the new folder is already there.
        fs::create_dir(&old).expect("a folder");
        recover_folders(around.path()).expect("a folder");
        assert_eq!(text(&path.join("file")).as_deref(), Some("old"));
        assert!(old.is_dir());
        recover_folders(&around.path().join("nowhere")).expect("nothing to do");
    }

    #[test]
    fn a_removed_folder_is_gone() {
        let around = tempfile::tempdir().expect("a temporary folder");
        let path = around.path().join("folder");
        fs::create_dir(&path).expect("a folder");
        remove_folder(&path).expect("no folder");
        assert_eq!(fs::read_dir(around.path()).expect("a folder").count(), 0);
        assert_eq!(remove_folder(&path).expect_err("nothing there").path, path);
    }
}
