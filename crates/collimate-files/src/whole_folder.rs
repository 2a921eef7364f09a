//! Files that fill a folder together: a new one, or one that is there and empty.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::plain::read_plain;
use crate::same::is_there;
use crate::staged::StagedFolder;
use crate::temporary::each_dead_folder;
use crate::{WriteError, folder_of, name_of, remove_leftovers_beside, sync_folder, write_atomically};

/// Lists the files that are being moved into a folder, while they are.
const MOVES: &str = ".moves";
/// Name of the folder within a folder where its files are written.
const INNER: &str = "files";
/// Size limit of the list, in bytes.
const MAX_LIST_BYTES: u64 = 1 << 20;

/// A folder whose files are written under a hidden name and appear together on [`commit`](Self::commit); dropping it
/// uncommitted deletes them.
///
/// A new folder appears by one rename. A folder that is there stays the same folder, be it a mounted disk or somebody's
/// working folder: its files are moved into it, and whoever starts again after a kill amid the moves takes them back first.
#[derive(Debug)]
pub struct WholeFolder {
    staged: StagedFolder,
    /// The folder that is there already.
    existing: Option<PathBuf>,
}

impl WholeFolder {
    /// Starts the files of a folder, after clearing away what a killed process left of them. Its parents are created.
    ///
    /// # Errors
    /// The folder, which must be empty if it is there, or its parent cannot be written.
    pub fn create(path: &Path) -> Result<Self, WriteError> {
        if path.is_dir() {
            Self::recover(path)?;
            let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            let names = entries.map_err(WriteError::at(path))?.into_iter().map(|entry| name_of(&entry.path()));
            if let Some(name) = names.min() {
                let message = format!("it holds \"{name}\", and only a new folder or an empty one is filled");
                return Err(WriteError::at(path)(io::Error::other(message)));
            }
            let staged = StagedFolder::create(&path.join(INNER))?;
            return Ok(Self { staged, existing: Some(path.to_owned()) });
        }
        let parent = folder_of(path);
        fs::create_dir_all(parent).map_err(WriteError::at(parent))?;
        remove_leftovers_beside(path);
        Ok(Self { staged: StagedFolder::create(path)?, existing: None })
    }

    /// Removes from a folder what a killed process left there, and what it had moved there before it was done.
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub fn recover(path: &Path) -> Result<(), WriteError> {
        take_back(path)?;
        remove_leftovers_beside(&path.join(INNER));
        Ok(())
    }

    /// The hidden folder to write the files to.
    pub fn staging(&self) -> &Path {
        self.staged.staging()
    }

    /// Makes the files appear, `last` after all others if they are moved one by one. The caller must have synced them.
    ///
    /// # Errors
    /// A rename fails.
    pub fn commit(self, last: &str) -> Result<(), WriteError> {
        let Some(folder) = &self.existing else { return self.staged.commit() };
        let staging = self.staged.staging();
        let mut names = Vec::new();
        for entry in fs::read_dir(staging).map_err(WriteError::at(staging))? {
            names.push(name_of(&entry.map_err(WriteError::at(staging))?.path()));
        }
        names.sort_by_key(|name| (name == last, name.clone()));
        let mut moves = String::new();
        for name in &names {
            let path = staging.join(name);
            moves += &format!("{} {name}\n", number_of(&path).map_err(WriteError::at(&path))?);
        }
        write_atomically(&staging.join(MOVES), moves.as_bytes())?;
        for name in &names {
            fs::rename(staging.join(name), folder.join(name)).map_err(WriteError::at(&folder.join(name)))?;
        }
        sync_folder(folder)?;
        fs::remove_file(staging.join(MOVES)).map_err(WriteError::at(folder))
        // The hidden folder is empty now, and goes when it is dropped.
    }
}

/// Moves back what a killed process had moved into the folder before it was done.
fn take_back(folder: &Path) -> Result<(), WriteError> {
    each_dead_folder(folder, INNER, &mut |staging| {
        let list = match read_plain(&staging.join(MOVES), MAX_LIST_BYTES) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            list => list?,
        };
        for (number, name) in list.lines().filter_map(|line| line.split_once(' ')) {
            let (from, to) = (folder.join(name), staging.join(name));
            // Only a file that was in the hidden folder: a list that somebody else wrote moves nothing.
            let is_moved =
                !name.contains(['/', '\\']) && number_of(&from).is_ok_and(|there| there.to_string() == number);
            if is_moved && !is_there(&to) {
                fs::rename(from, to)?;
            }
        }
        Ok(())
    })
}

/// The number by which the file system knows a file, whatever it is called.
#[cfg(unix)]
fn number_of(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).map(|file| file.ino())
}

/// Other systems do not tell: nothing is taken back there.
#[cfg(not(unix))]
fn number_of(_path: &Path) -> io::Result<u64> {
    Ok(0)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).expect("a folder").map(|entry| name_of(&entry.expect("an entry").path())).collect();
        names.sort();
        names
    }

    fn filled(path: &Path) -> WholeFolder {
        let whole = WholeFolder::create(path).expect("a folder");
        for name in ["a", "b", "config"] {
            fs::write(whole.staging().join(name), name).expect("a file");
        }
        whole
    }

    #[rstest]
    #[case::new(false)]
    #[case::there(true)]
    fn files_appear_together_and_leave_nothing_behind(#[case] is_there: bool) {
        let around = tempfile::tempdir().expect("a folder");
        let path = around.path().join("out/model");
        if is_there {
            fs::create_dir_all(&path).expect("a folder");
        }
        drop(filled(&path));
        assert_eq!(path.exists(), is_there);
        assert_eq!(names(&around.path().join("out")), if is_there { vec!["model"] } else { vec![] });
        let whole = filled(&path);
        assert!(!path.join("a").exists());
        whole.commit("a").expect("a folder");
        assert_eq!(names(&path), ["a", "b", "config"]);
        assert_eq!(names(&around.path().join("out")), ["model"]);
        assert!(WholeFolder::create(&path).expect_err("it is full").to_string().contains("it holds \"a\""));
    }

    /// Every state that a kill leaves while files are moved.
    #[cfg(unix)]
    #[rstest]
    fn what_was_moved_before_a_kill_is_taken_back(#[values(0, 1, 2, 3)] moved: usize) {
        let around = tempfile::tempdir().expect("a folder");
        let path = around.path().join("model");
        fs::create_dir(&path).expect("a folder");
        let whole = filled(&path);
        let staging = whole.staging().to_owned();
        let number = |name: &str| number_of(&staging.join(name)).expect("a file");
        let list = ["a", "b", "config"].map(|name| format!("{} {name}\n", number(name))).concat();
        // Somebody else's file of a listed name, and one that is elsewhere.
        fs::write(around.path().join("precious"), "").expect("a file");
        let elsewhere = format!("{} ../precious\n", number_of(&around.path().join("precious")).expect("a file"));
        write_atomically(&staging.join(MOVES), (list + &elsewhere).as_bytes()).expect("a list");
        for name in ["a", "b", "config"].into_iter().take(moved) {
            fs::rename(staging.join(name), path.join(name)).expect("a rename");
        }
        // As after a kill: the lock is gone, and nothing was removed.
        let kept = around.path().join("kept");
        fs::rename(&staging, &kept).expect("a rename");
        drop(whole);
        fs::rename(&kept, &staging).expect("a rename");
        filled(&path).commit("config").expect("a folder");
        assert_eq!(names(&path), ["a", "b", "config"]);
        assert!(around.path().join("precious").exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_list_that_somebody_wrote_moves_and_removes_nothing() {
        let around = tempfile::tempdir().expect("a folder");
        let path = around.path().join("model");
        let hidden = path.join(".files.0123456789abcdef.collimate.tmp");
        fs::create_dir_all(&hidden).expect("a folder");
        fs::write(path.join("notes"), "mine").expect("a file");
        fs::write(hidden.join(MOVES), "1 notes\n").expect("a list");
        assert!(WholeFolder::create(&path).expect_err("notes").to_string().contains("it holds \"notes\""));
        assert_eq!(fs::read_to_string(path.join("notes")).expect("a file"), "mine");
    }

    #[test]
    fn a_folder_that_is_filled_by_another_process_is_not_taken() {
        let around = tempfile::tempdir().expect("a folder");
        fs::create_dir(around.path().join("model")).expect("a folder");
        let other = filled(&around.path().join("model"));
        assert!(WholeFolder::create(&around.path().join("model")).is_err());
        other.commit("config").expect("a folder");
        assert_eq!(names(&around.path().join("model")), ["a", "b", "config"]);
    }
}
