//! The file that a verb's `--output` names.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::output::{Form, form, standard_output};
use crate::{AtomicFile, WriteError, append_plain, remove_leftovers_beside};

/// An output that a user named: a file that appears complete or not at all; or a pipe, a terminal or another device, which is
/// written to as it is and stays what it is.
#[derive(Debug)]
pub enum OutputFile {
    /// A plain file, there or not.
    File(AtomicFile),
    /// Something that takes bytes as they come.
    Stream {
        /// The open stream.
        file: File,
        /// Its name.
        path: PathBuf,
    },
}

impl OutputFile {
    /// Opens an output, and clears away what killed processes left beside it. Whether it may be replaced is for
    /// [`check_output`](crate::check_output) to say.
    ///
    /// # Errors
    /// The folder does not exist or is not writable; a link, a folder or a disk has the name; nobody reads the pipe.
    pub fn create(path: &Path) -> Result<Self, WriteError> {
        let failed = WriteError::at(path);
        let file = match form(path) {
            Ok(Form::File) => {
                remove_leftovers_beside(path);
                return Ok(Self::File(AtomicFile::create(path)?));
            }
            Ok(Form::Stream) => open_stream(path),
            Ok(Form::StandardOutput) => standard_output(),
            Err(error) => Err(io::Error::other(error.reason())),
        };
        Ok(Self::Stream { file: file.map_err(failed)?, path: path.to_owned() })
    }

    /// The output's name.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(file) => file.path(),
            Self::Stream { path, .. } => path,
        }
    }

    /// Makes a file appear under its name; a stream has its bytes already.
    ///
    /// # Errors
    /// Those of [`AtomicFile::commit`].
    pub fn commit(self) -> Result<(), WriteError> {
        match self {
            Self::File(file) => file.commit(),
            Self::Stream { .. } => Ok(()),
        }
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stream { file, .. } => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stream { file, .. } => file.flush(),
        }
    }
}

/// Opens an output that lines are added to as they come, such as a log: a plain file, which is created if it is not there, or a
/// pipe, a terminal or another device.
///
/// # Errors
/// It cannot be opened, or a link, a folder or a disk has the name; nobody reads the pipe.
pub fn append_output(path: &Path) -> io::Result<File> {
    match form(path) {
        Ok(Form::File) => append_plain(path),
        Ok(Form::Stream) => open_stream(path),
        Ok(Form::StandardOutput) => standard_output(),
        Err(error) => Err(io::Error::other(error.reason())),
    }
}

/// Writes `bytes` to an output that a user named; meant for small files.
///
/// # Errors
/// Those of [`OutputFile::create`] and [`OutputFile::commit`].
pub fn write_output(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let mut file = OutputFile::create(path)?;
    file.write_all(bytes).map_err(WriteError::at(path))?;
    file.commit()
}

/// Opens a device or a pipe. A pipe's reader may come a moment later, as in `cat pipe & collimate … --output pipe`, but one that
/// never comes is not waited for.
#[cfg(unix)]
fn open_stream(path: &Path) -> io::Result<File> {
    use std::fs::OpenOptions;
    use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    use rustix::io::Errno;

    /// How long a pipe's reader is waited for.
    const PATIENCE: Duration = Duration::from_secs(3);

    let begun = Instant::now();
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    let file = loop {
        match OpenOptions::new().write(true).custom_flags(flags).open(path) {
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
                match begun.elapsed() < PATIENCE {
                    true => sleep(Duration::from_millis(20)),
                    false => return Err(io::Error::other("it is a pipe that nobody reads")),
                }
            }
            opened => break opened?,
        }
    };
    let kind = file.metadata()?.file_type();
    if !(kind.is_fifo() || kind.is_char_device()) {
        return Err(io::Error::other("it was exchanged for something else"));
    }
    // From here on writing waits for the reader, as everywhere.
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

#[cfg(not(unix))]
fn open_stream(_: &Path) -> io::Result<File> {
    Err(io::Error::other("it is no file"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_appears_when_it_is_complete() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out.jsonl");
        let mut file = OutputFile::create(&path).expect("an output");
        file.write_all(b"rows").expect("bytes");
        assert!(!path.exists());
        file.commit().expect("a file");
        assert_eq!(fs::read(&path).expect("a file"), b"rows");
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_gets_the_bytes_and_stays_a_pipe() {
        use std::os::unix::fs::FileTypeExt;

        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        let error = OutputFile::create(&path).expect_err("nobody reads").to_string();
        assert!(error.ends_with("it is a pipe that nobody reads"), "{error}");
        let text = vec![b'x'; 200_000];
        let read = std::thread::scope(|scope| {
            let reader = scope.spawn(|| fs::read(&path).expect("bytes"));
            write_output(&path, &text).expect("a reader");
            reader.join().expect("bytes")
        });
        assert!(read == text);
        assert!(fs::symlink_metadata(&path).expect("a pipe").file_type().is_fifo());
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_written_to_and_a_link_to_a_file_is_not() {
        use std::os::unix::fs::symlink;

        let folder = tempfile::tempdir().expect("a folder");
        let (null, precious) = (folder.path().join("null"), folder.path().join("precious"));
        symlink("/dev/null", &null).expect("a link");
        write_output(&null, b"rows").expect("a device");
        assert!(fs::symlink_metadata(&null).expect("a link").is_symlink());
        fs::write(&precious, "precious").expect("a file");
        symlink(&precious, folder.path().join("link")).expect("a link");
        assert!(write_output(&folder.path().join("link"), b"rows").is_err());
        assert_eq!(fs::read(&precious).expect("a file"), b"precious");
    }
}
