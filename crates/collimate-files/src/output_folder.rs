//! Whether a folder may be filled where it is wanted.

use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::name_of;
use crate::output::is_same;
use crate::plain::LINK;

/// A folder that must not be written to; nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FolderError {
    /// What is read from it would be overwritten.
    #[error("{}: it is the folder of the {what}, which is read; choose another --output", path.display())]
    Read {
        /// The folder.
        path: PathBuf,
        /// What is read from it.
        what: &'static str,
    },
    /// It holds something under a name that would be written.
    #[error(
        "{}: it holds \"{name}\", which is not this command's and would be overwritten; choose another --output, or move it away",
        path.display()
    )]
    Holds {
        /// The folder.
        path: PathBuf,
        /// What is in the way.
        name: String,
    },
    /// A file of ours has become a link or the like.
    #[error("{}: {problem}, or move it away", path.display())]
    NotPlain {
        /// The file.
        path: PathBuf,
        /// What it is.
        problem: String,
    },
}

/// A folder that a verb is to fill. Everything in it that does not bear a name of the verb's files is left alone.
pub struct OutputFolder<'a> {
    /// The folder; it need not be there. A link to one is the user's choice.
    pub path: &'a Path,
    /// Folders that are read, with what they hold: `model`.
    pub reads: &'a [(&'static str, &'a Path)],
    /// Whether a name is one of the verb's files.
    pub writes: &'a dyn Fn(&str) -> bool,
}

impl OutputFolder<'_> {
    /// Checks that nothing would be overwritten: the folder is none of those that are read, and holds nothing under a name that
    /// is written. If it holds an earlier run of the verb (`is_own`, which only the verb can tell), its files are the verb's own.
    /// Whatever bears such a name must be a plain file or a real folder.
    ///
    /// # Errors
    /// [`FolderError`], naming what is in the way.
    pub fn check(&self, is_own: bool) -> Result<(), FolderError> {
        if let Some((what, _)) = self.reads.iter().find(|(_, read)| is_same(self.path, read)) {
            return Err(FolderError::Read { path: self.path.to_owned(), what });
        }
        let entries = fs::read_dir(self.path).into_iter().flatten().flatten();
        let mut taken: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        taken.retain(|path| (self.writes)(&name_of(path)));
        taken.sort();
        match taken.first() {
            Some(first) if !is_own => Err(FolderError::Holds { path: self.path.to_owned(), name: name_of(first) }),
            _ => taken.iter().try_for_each(|path| must_be_plain(path)),
        }
    }
}

fn must_be_plain(path: &Path) -> Result<(), FolderError> {
    let problem = match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => LINK,
        Ok(found) if !found.is_file() && !found.is_dir() => {
            "it is neither a file nor a folder: put a file in its place"
        }
        _ => return Ok(()),
    };
    Err(FolderError::NotPlain { path: path.to_owned(), problem: problem.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &Path, read: &Path, is_own: bool) -> Result<(), FolderError> {
        let writes = |name: &str| name == "model" || name == "card";
        OutputFolder { path, reads: &[("model", read)], writes: &writes }.check(is_own)
    }

    #[test]
    fn an_absent_an_empty_and_an_own_folder_are_free_and_others_files_may_be_beside() {
        let around = tempfile::tempdir().expect("a folder");
        let (path, read) = (around.path().join("out"), around.path().join("base"));
        fs::create_dir(&read).expect("a folder");
        assert_eq!(check(&path, &read, false), Ok(()));
        fs::create_dir(&path).expect("a folder");
        fs::write(path.join("notes"), "mine").expect("a file");
        assert_eq!(check(&path, &read, false), Ok(()));
        fs::write(path.join("card"), "mine").expect("a file");
        let error = check(&path, &read, false).expect_err("a card").to_string();
        assert!(error.contains("it holds \"card\", which is not this command's and would be overwritten"), "{error}");
        assert_eq!(check(&path, &read, true), Ok(()));
    }

    #[test]
    fn a_folder_that_is_read_is_never_free() {
        let around = tempfile::tempdir().expect("a folder");
        let read = around.path().join("base");
        fs::create_dir(&read).expect("a folder");
        let mut names = vec![read.clone(), around.path().join("./base/.")];
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("base", around.path().join("link")).expect("a link");
            names.push(around.path().join("link"));
        }
        for name in names {
            for is_own in [false, true] {
                let error = check(&name, &read, is_own).expect_err("it is read").to_string();
                assert!(error.contains("it is the folder of the model, which is read"), "{error}");
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_among_our_own_files_is_named() {
        let around = tempfile::tempdir().expect("a folder");
        let path = around.path().join("out");
        fs::create_dir(&path).expect("a folder");
        std::os::unix::fs::symlink("../victim", path.join("card")).expect("a link");
        let error = check(&path, Path::new("base"), true).expect_err("a link").to_string();
        assert!(error.ends_with(&format!("card: {LINK}, or move it away")), "{error}");
    }
}
