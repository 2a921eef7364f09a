//! One process of a reward program. Its input is written, its output and its standard error are read by threads of their
//! own, so that no full pipe ever stops it or us.
//!
//! The threads are not waited for: a program that started others may be gone while they hold its pipes open.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::ProgramCommand;

/// Longest line of output that is read.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// How much of the standard error is kept.
const TAIL_BYTES: usize = 2048;
/// Lines of output that wait to be looked at, at most.
const LINES_AHEAD: usize = 256;
/// Between looks at what else may have happened.
const POLL: Duration = Duration::from_millis(20);
/// How long a process that has closed its output may take to end.
const PATIENCE: Duration = Duration::from_secs(2);

/// What came of waiting for the next line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A line without its end.
    Line(String),
    /// A line longer than any answer; its beginning.
    TooLong(String),
    /// There will be no further line.
    Ended,
    /// None came in time.
    Late,
    /// The wait was called off.
    CalledOff,
}

/// How a process ended, and the last that it said.
#[derive(Debug)]
pub(super) struct Ending {
    /// None where it had to be killed.
    pub(super) status: Option<ExitStatus>,
    pub(super) stderr: String,
}

impl Ending {
    /// Whether it ended by itself and called it a success.
    pub(super) fn is_success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// In words: `exit code 3`, `signal: 9 (SIGKILL)`; none where it was killed by us.
    pub(super) fn status(&self) -> Option<String> {
        self.status.map(|status| match status.code() {
            Some(code) => format!("exit code {code}"),
            None => status.to_string(),
        })
    }
}

#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    lines: Receiver<Heard>,
    stderr: Arc<Mutex<Vec<u8>>>,
    stderr_reader: JoinHandle<()>,
    /// When it was first found to have ended.
    gone: Option<Instant>,
}

impl Process {
    /// Starts the program and gives it the requests, then the end of its input.
    pub(super) fn start(
        program: &ProgramCommand,
        requests: impl Iterator<Item = String> + Send + 'static,
    ) -> io::Result<Self> {
        let mut command = program.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if std::env::var_os("PYTHONUNBUFFERED").is_none() {
            // Python holds lines back that go into a pipe, which looks as if it did not answer.
            command.env("PYTHONUNBUFFERED", "1");
        }
        let mut child = command.spawn()?;
        if let Some(stdin) = child.stdin.take() {
            thread::spawn(move || write_all(stdin, requests));
        }
        let (sender, lines) = sync_channel(LINES_AHEAD);
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || read_lines(stdout, &sender));
        }
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let (pipe, tail) = (child.stderr.take(), Arc::clone(&stderr));
        let stderr_reader = thread::spawn(move || pipe.into_iter().for_each(|pipe| keep_tail(pipe, &tail)));
        Ok(Self { child, lines, stderr, stderr_reader, gone: None })
    }

    /// Waits for the next line, so long at most, or until `is_called_off` says so.
    pub(super) fn hear(&mut self, timeout: Option<Duration>, is_called_off: impl Fn() -> bool) -> Heard {
        let begun = Instant::now();
        loop {
            match self.lines.recv_timeout(POLL) {
                Ok(heard) => return heard,
                Err(RecvTimeoutError::Disconnected) => return Heard::Ended,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if is_called_off() {
                return Heard::CalledOff;
            }
            if timeout.is_some_and(|timeout| begun.elapsed() >= timeout) {
                return Heard::Late;
            }
            // Another process may hold its output open.
            if self.gone.is_none() && matches!(self.child.try_wait(), Ok(Some(_))) {
                self.gone = Some(Instant::now());
            }
            if self.gone.is_some_and(|gone| gone.elapsed() >= PATIENCE) {
                return Heard::Ended;
            }
        }
    }

    /// The end of its standard error so far.
    pub(super) fn stderr(&self) -> String {
        let tail = self.stderr.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let begin = tail.len().saturating_sub(TAIL_BYTES);
        String::from_utf8_lossy(&tail[begin..]).into_owned()
    }

    /// Waits for its end for a while, then kills it.
    pub(super) fn end(mut self) -> Ending {
        let begun = Instant::now();
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if begun.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(2)),
                _ => break None,
            }
        };
        self.ended(status)
    }

    /// Kills it.
    pub(super) fn kill(mut self) -> Ending {
        let _ = self.child.kill();
        self.ended(None)
    }

    fn ended(&mut self, status: Option<ExitStatus>) -> Ending {
        if status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        // What it said last is on its way.
        let begun = Instant::now();
        while !self.stderr_reader.is_finished() && begun.elapsed() < PATIENCE / 10 {
            thread::sleep(Duration::from_millis(1));
        }
        Ending { status, stderr: self.stderr() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Most have ended; one that has not would wait for us for ever.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Closes the input at the end. A program that reads no further is told by its output.
fn write_all(mut stdin: ChildStdin, requests: impl Iterator<Item = String>) {
    for request in requests {
        if stdin.write_all(request.as_bytes()).is_err() {
            return;
        }
    }
}

fn read_lines(stdout: ChildStdout, lines: &SyncSender<Heard>) {
    let mut reader = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let whole = line.last() == Some(&b'\n');
        let too_long = !whole && line.len() as u64 == MAX_LINE_BYTES;
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']).to_owned();
        let heard = if too_long { Heard::TooLong(text) } else { Heard::Line(text) };
        // Nobody listens any more.
        if lines.send(heard).is_err() || too_long {
            return;
        }
    }
}

fn keep_tail(mut stderr: ChildStderr, tail: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stderr.read(&mut buffer) {
        let mut tail = tail.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        tail.extend_from_slice(&buffer[..count]);
        let surplus = tail.len().saturating_sub(2 * TAIL_BYTES);
        tail.drain(..surplus);
    }
}
