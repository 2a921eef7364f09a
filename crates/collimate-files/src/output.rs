//! Whether an output may be written where it is wanted.

use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// An output that must not be written; nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OutputError {
    /// Something of this name is there.
    #[error("{}: there is a file of this name; --force replaces it", path.display())]
    Exists {
        /// The output.
        path: PathBuf,
    },
    /// A folder of this name is there.
    #[error("{}: this is a folder, and the output is a file", path.display())]
    Folder {
        /// The output.
        path: PathBuf,
    },
    /// It is one of the files that are read.
    #[error("{}: this file is read, so it cannot be the output too; give the output another name", path.display())]
    Input {
        /// The output.
        path: PathBuf,
    },
}

/// Checks that writing a file at `output` destroys nothing unasked: nothing of this name is there, or `force` is given and it
/// is none of the `inputs`, whatever names or links they are reached by.
///
/// # Errors
/// The output is taken.
pub fn check_output<'a>(
    output: &Path,
    inputs: impl IntoIterator<Item = &'a Path>,
    force: bool,
) -> Result<(), OutputError> {
    let path = || output.to_owned();
    let Ok(metadata) = fs::symlink_metadata(output) else { return Ok(()) };
    if inputs.into_iter().any(|input| is_same(output, input)) {
        return Err(OutputError::Input { path: path() });
    }
    match (metadata.is_dir(), force) {
        (true, _) => Err(OutputError::Folder { path: path() }),
        (false, false) => Err(OutputError::Exists { path: path() }),
        (false, true) => Ok(()),
    }
}

/// Whether two names lead to the same file.
fn is_same(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(real_a), Ok(real_b)) => real_a == real_b || is_same_inode(&real_a, &real_b),
        _ => false,
    }
}

#[cfg(unix)]
fn is_same_inode(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    matches!((identity(a), identity(b)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(not(unix))]
fn is_same_inode(_: &Path, _: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_name_is_fine_and_a_taken_one_needs_force() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out.jsonl");
        assert_eq!(check_output(&path, [], false), Ok(()));
        fs::write(&path, "old").expect("a file");
        let error = check_output(&path, [], false).expect_err("it is taken");
        assert!(error.to_string().ends_with("out.jsonl: there is a file of this name; --force replaces it"), "{error}");
        assert_eq!(check_output(&path, [], true), Ok(()));
        let error = check_output(folder.path(), [], true).expect_err("a folder");
        assert!(matches!(error, OutputError::Folder { .. }), "{error}");
    }

    #[test]
    fn an_input_is_never_replaced_by_whatever_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let input = folder.path().join("in.jsonl");
        fs::write(&input, "rows").expect("a file");
        let mut names = vec![input.clone(), folder.path().join(".").join("in.jsonl")];
        #[cfg(unix)]
        {
            let (hard, soft) = (folder.path().join("hard.jsonl"), folder.path().join("soft.jsonl"));
            fs::hard_link(&input, &hard).expect("a link");
            std::os::unix::fs::symlink(&input, &soft).expect("a link");
            names.extend([hard, soft]);
        }
        for name in names {
            let error = check_output(&name, [input.as_path()], true).expect_err("an input");
            assert!(matches!(error, OutputError::Input { .. }), "{error}");
        }
    }

    /// A link whose target is missing is there, too.
    #[cfg(unix)]
    #[test]
    fn a_dangling_link_is_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out.jsonl");
        std::os::unix::fs::symlink(folder.path().join("nowhere"), &path).expect("a link");
        assert!(check_output(&path, [], false).is_err());
    }
}
