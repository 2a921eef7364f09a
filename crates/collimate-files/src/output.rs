//! Whether a file may be written where it is wanted.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::same::{is_same_file, is_there};

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
    /// A link of this name is there, to a file or to nothing. Replacing it would not change what it leads to, and writing
    /// through it would change a file elsewhere.
    #[error("{}: this is a link; name the file itself", path.display())]
    Link {
        /// The output.
        path: PathBuf,
    },
    /// Something is there that holds no rows: a disk, a socket.
    #[error("{}: this is {what}, which is not written to", path.display())]
    Special {
        /// The output.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// It is one of the files that are read.
    #[error("{}: this file is read, so it cannot be the output too; give the output another name", path.display())]
    Input {
        /// The output.
        path: PathBuf,
    },
}

impl OutputError {
    /// What is wrong, without the output's name.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Exists { .. } => "there is a file of this name".to_owned(),
            Self::Folder { .. } => "this is a folder, and the output is a file".to_owned(),
            Self::Link { .. } => "this is a link; name the file itself".to_owned(),
            Self::Special { what, .. } => format!("this is {what}, which is not written to"),
            Self::Input { .. } => "this file is read".to_owned(),
        }
    }
}

/// How an output is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A file, which appears complete or not at all.
    File,
    /// A pipe, a terminal or another device that takes bytes as they come; it stays what it is.
    Stream,
    /// The file that standard output goes to, named as `/dev/stdout`.
    StandardOutput,
}

/// Checks that writing a file at `output` destroys nothing unasked: nothing of this name is there, or `force` is given and it
/// is none of the `inputs`, whatever names or links they are reached by. A pipe or a device such as `/dev/null` is written to
/// as it is, and needs no `force`.
///
/// # Errors
/// The output is taken, or nothing that can be written.
pub fn check_output<'a>(
    output: &Path,
    inputs: impl IntoIterator<Item = &'a Path>,
    force: bool,
) -> Result<(), OutputError> {
    let path = || output.to_owned();
    if !is_there(output) {
        return Ok(());
    }
    if inputs.into_iter().any(|input| is_same(output, input)) {
        return Err(OutputError::Input { path: path() });
    }
    match (form(output)?, force) {
        (Form::File, false) => Err(OutputError::Exists { path: path() }),
        _ => Ok(()),
    }
}

/// What is at the path of an output, and so how it is written.
pub(crate) fn form(output: &Path) -> Result<Form, OutputError> {
    let path = || output.to_owned();
    let Ok(found) = fs::symlink_metadata(output) else { return Ok(Form::File) };
    if !found.is_symlink() {
        return form_of(output, &found);
    }
    // `/dev/stdout` and the pipes of a shell's `>(…)` are links.
    match fs::metadata(output) {
        Ok(found) if found.is_file() && is_standard_output(&found) => Ok(Form::StandardOutput),
        Ok(found) if !found.is_file() => form_of(output, &found),
        _ => Err(OutputError::Link { path: path() }),
    }
}

fn form_of(output: &Path, found: &Metadata) -> Result<Form, OutputError> {
    let path = || output.to_owned();
    if found.is_file() {
        return Ok(Form::File);
    }
    if found.is_dir() {
        return Err(OutputError::Folder { path: path() });
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = found.file_type();
        if kind.is_fifo() || kind.is_char_device() {
            return Ok(Form::Stream);
        }
        if kind.is_block_device() {
            return Err(OutputError::Special { path: path(), what: "a disk" });
        }
    }
    Err(OutputError::Special { path: path(), what: "neither a file nor a pipe" })
}

fn is_standard_output(found: &Metadata) -> bool {
    standard_output().and_then(|file| file.metadata()).is_ok_and(|here| is_same_file(&here, found))
}

/// Standard output as a file, at its present position.
#[cfg(unix)]
pub(crate) fn standard_output() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
}

#[cfg(not(unix))]
pub(crate) fn standard_output() -> io::Result<File> {
    Err(io::Error::other("it is no file"))
}

/// Whether two names lead to the same file.
pub(crate) fn is_same(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) if a == b => true,
        // Hard links.
        (Ok(a), Ok(b)) => matches!((fs::metadata(a), fs::metadata(b)), (Ok(a), Ok(b)) if is_same_file(&a, &b)),
        _ => false,
    }
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
        let mut names = vec![input.clone(), folder.path().join("../").join(folder.path()).join("in.jsonl")];
        #[cfg(unix)]
        {
            let (hard, soft) = (folder.path().join("hard"), folder.path().join("soft"));
            fs::hard_link(&input, &hard).expect("a link");
            std::os::unix::fs::symlink(&input, &soft).expect("a link");
            names.extend([hard, soft]);
        }
        for name in names {
            let error = check_output(&name, [input.as_path()], true).expect_err("an input");
            assert!(matches!(error, OutputError::Input { .. }), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_refused_whether_it_leads_somewhere_or_not() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("precious"), "precious").expect("a file");
        for target in ["nowhere", "precious"] {
            let path = folder.path().join(format!("{target}-link"));
            std::os::unix::fs::symlink(target, &path).expect("a link");
            for force in [false, true] {
                let error = check_output(&path, [], force).expect_err("a link");
                assert!(error.to_string().ends_with("this is a link; name the file itself"), "{error}");
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn devices_and_pipes_are_streams_and_sockets_are_nothing() {
        use std::os::unix::fs::symlink;

        let folder = tempfile::tempdir().expect("a folder");
        let (pipe, link, socket) =
            (folder.path().join("pipe"), folder.path().join("link"), folder.path().join("socket"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        symlink("/dev/null", &link).expect("a link");
        for path in [Path::new("/dev/null"), &pipe, &link] {
            assert_eq!((form(path), check_output(path, [], false)), (Ok(Form::Stream), Ok(())));
        }
        let _socket = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        assert!(matches!(check_output(&socket, [], true), Err(OutputError::Special { .. })));
    }
}
