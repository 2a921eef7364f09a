//! Opens what a user names as input: a file, or a stream that can be read once.

use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::path::Path;
#[cfg(unix)]
use std::time::Duration;

/// How long a pipe is waited for that nobody has opened to write.
#[cfg(unix)]
const WAIT_FOR_WRITER: Duration = Duration::from_secs(10);

/// Opens a file of data, or a pipe. Links are followed: stores of large files (git-annex, DVC, the hub's cache) consist of them.
///
/// # Errors
/// Opening it fails; it is a pipe that nobody writes to, or a device other than a terminal, which might have no end.
pub fn open_input(path: &Path) -> io::Result<File> {
    let kind = fs::metadata(path)?.file_type();
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return open_pipe(path, WAIT_FOR_WRITER);
        }
        if kind.is_block_device() {
            return Err(io::Error::other("it is a device, and data is read from a file or a pipe"));
        }
    }
    let file = File::open(path)?;
    let is_stream = !kind.is_file() && !kind.is_dir();
    match is_stream && !file.is_terminal() && !is_pipe(&file)? {
        true => Err(io::Error::other("it is a device, and data is read from a file or a pipe")),
        false => Ok(file),
    }
}

/// Whether a file is a pipe, or a socket, as a descriptor under `/dev/fd` may be.
fn is_pipe(file: &File) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = file.metadata()?.file_type();
        Ok(kind.is_fifo() || kind.is_socket())
    }
    #[cfg(not(unix))]
    Ok(!file.metadata()?.is_file())
}

/// Opens a pipe, which waits for whoever writes to it.
#[cfg(unix)]
fn open_pipe(path: &Path, wait: Duration) -> io::Result<File> {
    use std::sync::mpsc::{RecvTimeoutError, sync_channel};

    let (sender, receiver) = sync_channel(1);
    let name = path.to_owned();
    // Nothing but a writer ends the wait, so after an error this thread stays until the process ends.
    std::thread::Builder::new().name("pipe".to_owned()).spawn(move || sender.send(File::open(&name)))?;
    match receiver.recv_timeout(wait) {
        Ok(opened) => opened,
        Err(RecvTimeoutError::Timeout) => {
            let seconds = wait.as_secs();
            Err(io::Error::other(format!("it is a pipe, and in {seconds} s nobody has opened it to write")))
        }
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("it is a pipe that cannot be opened")),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::symlink;

    use super::*;

    fn pipe(folder: &Path) -> std::path::PathBuf {
        let path = folder.join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        path
    }

    #[test]
    fn a_file_is_opened_through_a_link() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("data"), "rows").expect("a file");
        symlink("data", folder.path().join("link")).expect("a link");
        let mut text = String::new();
        open_input(&folder.path().join("link")).expect("a file").read_to_string(&mut text).expect("text");
        assert_eq!(text, "rows");
    }

    #[test]
    fn a_pipe_is_read_once_it_has_a_writer_and_given_up_without_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = pipe(folder.path());
        let error = open_pipe(&path, Duration::from_millis(50)).expect_err("nobody writes").to_string();
        assert_eq!(error, "it is a pipe, and in 0 s nobody has opened it to write");
        let text = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                File::options().write(true).open(&path).expect("a reader").write_all(b"rows").expect("written");
            });
            let mut text = String::new();
            open_input(&path).expect("a writer").read_to_string(&mut text).expect("text");
            text
        });
        assert_eq!(text, "rows");
    }

    #[test]
    fn a_device_is_refused() {
        for device in ["/dev/zero", "/dev/null"] {
            let error = open_input(Path::new(device)).expect_err("a device").to_string();
            assert!(error.contains("it is a device"), "{device}: {error}");
        }
    }
}
