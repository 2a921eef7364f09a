//! One process of a reward program. Input, output and standard error each have a thread, so that a full pipe blocks
//! neither the program nor us.
//!
//! The threads are never joined: a program may exit while processes that it started still hold its pipes open.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::ProgramCommand;

/// Longest line of output.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// How much of standard error to keep.
const TAIL_BYTES: usize = 2048;
/// Maximum lines of output to buffer.
const LINES_AHEAD: usize = 256;
/// How often to check for a stop, a timeout or an exit while waiting.
const POLL: Duration = Duration::from_millis(20);
/// How long a process may take to exit after closing its output.
const PATIENCE: Duration = Duration::from_secs(2);

/// The outcome of waiting for the next line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextLine {
    /// A line, without its line break.
    Line(String),
    /// The beginning of a line too long to be an answer.
    TooLong(String),
    /// The output has ended.
    Ended,
    /// The timeout passed.
    Late,
    /// The wait was canceled.
    Canceled,
}

/// How a process ended, and the end of its standard error.
#[derive(Debug)]
pub(super) struct Ending {
    /// `None` if we killed it.
    pub(super) status: Option<ExitStatus>,
    pub(super) stderr: String,
}

impl Ending {
    /// Whether it exited on its own with code 0.
    pub(super) fn is_success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// For messages: `exit code 3`, `signal: 9 (SIGKILL)`; `None` if we killed it.
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
    lines: Receiver<NextLine>,
    stderr: Arc<Mutex<Vec<u8>>>,
    stderr_reader: JoinHandle<()>,
    /// When it was first seen to have exited.
    exited: Option<Instant>,
}

impl Process {
    /// Starts the program, sends it the requests, then closes its input.
    pub(super) fn start(
        program: &ProgramCommand,
        requests: impl Iterator<Item = String> + Send + 'static,
    ) -> io::Result<Self> {
        let mut command = program.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if std::env::var_os("PYTHONUNBUFFERED").is_none() {
            // Python buffers output to a pipe, which would look like a program that does not answer.
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
        Ok(Self { child, lines, stderr, stderr_reader, exited: None })
    }

    /// Waits for the next line until the timeout passes or `is_canceled` returns true.
    pub(super) fn next_line(&mut self, timeout: Option<Duration>, is_canceled: impl Fn() -> bool) -> NextLine {
        let begun = Instant::now();
        loop {
            match self.lines.recv_timeout(POLL) {
                Ok(line) => return line,
                Err(RecvTimeoutError::Disconnected) => return NextLine::Ended,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if is_canceled() {
                return NextLine::Canceled;
            }
            if timeout.is_some_and(|timeout| begun.elapsed() >= timeout) {
                return NextLine::Late;
            }
            // The program may have exited while another process holds its output open.
            if self.exited.is_none() && matches!(self.child.try_wait(), Ok(Some(_))) {
                self.exited = Some(Instant::now());
            }
            if self.exited.is_some_and(|exited| exited.elapsed() >= PATIENCE) {
                return NextLine::Ended;
            }
        }
    }

    /// The end of standard error so far.
    pub(super) fn stderr(&self) -> String {
        let tail = self.stderr.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let begin = tail.len().saturating_sub(TAIL_BYTES);
        String::from_utf8_lossy(&tail[begin..]).into_owned()
    }

    /// Gives the process a moment to exit, then kills it.
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

    /// Kills the process.
    pub(super) fn kill(mut self) -> Ending {
        let _ = self.child.kill();
        self.ended(None)
    }

    fn ended(&mut self, status: Option<ExitStatus>) -> Ending {
        if status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        // Its last output may still be in the pipe.
        let begun = Instant::now();
        while !self.stderr_reader.is_finished() && begun.elapsed() < PATIENCE / 10 {
            thread::sleep(Duration::from_millis(1));
        }
        Ending { status, stderr: self.stderr() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that is still running would wait for input forever.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes the requests and closes the input. If the program stops reading, its output shows it.
fn write_all(mut stdin: ChildStdin, requests: impl Iterator<Item = String>) {
    for request in requests {
        if stdin.write_all(request.as_bytes()).is_err() {
            return;
        }
    }
}

fn read_lines(stdout: ChildStdout, lines: &SyncSender<NextLine>) {
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
        let next = if too_long { NextLine::TooLong(text) } else { NextLine::Line(text) };
        // Fails if the process has been dropped.
        if lines.send(next).is_err() || too_long {
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
