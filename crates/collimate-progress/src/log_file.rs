//! Lines with their time, appended to a file.

use std::fs::{File, create_dir_all};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::Local;
use collimate_files::{WriteError, append_output};
use console::strip_ansi_codes;

/// A file that gets the lines of a command, each with its time. Clones write to the same file.
#[derive(Debug, Clone)]
pub struct LogFile(Arc<Mutex<Pending>>);

/// The file, and the line that is not complete yet.
#[derive(Debug)]
struct Pending {
    file: File,
    line: Vec<u8>,
}

impl LogFile {
    /// Opens a file to append to, and creates it and its folder if they are not there. A terminal or a pipe is written to as it is.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(path: &Path) -> Result<Self, WriteError> {
        let failed = WriteError::at(path);
        let open = || {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                create_dir_all(folder)?;
            }
            append_output(path)
        };
        let pending = Pending { file: open().map_err(failed)?, line: Vec::new() };
        Ok(Self(Arc::new(Mutex::new(pending))))
    }

    /// Writes lines. A failure is ignored, since a log must not end a run.
    pub fn lines(&mut self, text: &str) {
        let _ = writeln!(self, "{}", text.trim_end_matches('\n'));
    }
}

impl Write for LogFile {
    /// Writes complete lines and keeps the rest.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.line.extend_from_slice(bytes);
        while let Some(end) = pending.line.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = pending.line.drain(..=end).collect();
            let text = String::from_utf8_lossy(&line[..end]).into_owned();
            let time = Local::now().format("%Y-%m-%d %H:%M:%S");
            // One call, so that lines of several processes stay whole.
            pending.file.write_all(format!("{time} {}\n", strip_ansi_codes(&text)).as_bytes())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_are_appended_with_their_time_and_without_colors() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("logs/run.log");
        LogFile::open(&path).expect("a log").lines("first");
        let mut log = LogFile::open(&path).expect("a log");
        log.lines("\x1b[1;31merror:\x1b[0m second\n  help: third\n");
        let _ = log.clone().write(b"fou");
        let _ = log.write(b"rth\n");
        let text = fs::read_to_string(&path).expect("a log");
        let lines: Vec<&str> = text.lines().map(|line| &line[20..]).collect();
        assert_eq!(lines, ["first", "error: second", "  help: third", "fourth"]);
        let is_time =
            |line: &str| line[..4].parse::<u32>().is_ok() && line.as_bytes()[13] == b':' && &line[19..20] == " ";
        assert!(text.lines().all(is_time), "{text}");
    }

    #[test]
    fn a_log_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = LogFile::open(folder.path()).expect_err("a folder is no file").to_string();
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
    }
}
