//! `cargo test` whose output is passed on and read at once, so that the summary of a long run names what failed in it.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::steps::execute;
use crate::workspace::words;

/// The most failures that a summary repeats.
const MOST: usize = 20;

/// Failures found in what tests print, each in a line.
#[derive(Debug, Default)]
struct Failures {
    found: Vec<String>,
    /// Lines of the last test's output that still belong to its entry: where it panicked, and why.
    wanted: usize,
}

impl Failures {
    /// Reads the next line of libtest's or cargo's.
    fn read(&mut self, line: &str) {
        let line = line.trim_end();
        if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            self.found.push(name.to_owned());
            self.wanted = 2;
        } else if line.starts_with("error: test failed") || line.contains("process didn't exit successfully") {
            self.found.push(line.trim_start().to_owned());
        } else if self.wanted > 0 && (self.wanted < 2 || line.contains("panicked at ")) {
            self.wanted -= 1;
            if let Some(last) = self.found.last_mut() {
                last.push_str(": ");
                last.push_str(line.trim());
            }
        }
    }
}

/// Runs `cargo test` to its end. What it prints to a terminal is left alone; what it prints elsewhere is passed on, and an
/// error names the tests that failed in it.
///
/// # Errors
/// It cannot be started, or it fails; the message has the command for repeating it.
pub(crate) fn execute_tests(command: &mut Command) -> Result<()> {
    if std::io::stdout().is_terminal() || std::io::stderr().is_terminal() {
        return execute(command);
    }
    eprintln!("    {}", words(command));
    watched(command, std::io::stdout(), std::io::stderr())
}

fn watched(command: &mut Command, stdout: impl Write + Send, stderr: impl Write) -> Result<()> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", words(command)))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (mut failures, told) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| out.map(|out| pass_on(out, stdout)).unwrap_or_default());
        let told = err.map(|err| pass_on(err, stderr)).unwrap_or_default();
        (reader.join().unwrap_or_default(), told)
    });
    let status = child.wait().with_context(|| format!("cannot wait for {}", words(command)))?;
    if status.success() {
        return Ok(());
    }
    failures.extend(told);
    bail!("failed ({status}): {}{}", words(command), listed(&failures));
}

/// Copies a stream to another line by line; the failures that it tells of.
fn pass_on(from: impl Read, mut to: impl Write) -> Vec<String> {
    let mut failures = Failures::default();
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        // A reader that has gone away is no reason to stop the tests.
        let _ = to.write_all(&line).and_then(|()| to.flush());
        failures.read(&String::from_utf8_lossy(&line));
        line.clear();
    }
    failures.found
}

fn listed(failures: &[String]) -> String {
    let mut text: String = failures.iter().take(MOST).map(|failure| format!("\n            {failure}")).collect();
    if failures.len() > MOST {
        text.push_str(&format!("\n            and {} more", failures.len() - MOST));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "test a ... ok\ntest b::c ... FAILED\n\nfailures:\n\n---- b::c stdout ----\nsome output\n\n\
                           thread 'b::c' panicked at src/lib.rs:1:2:\nleft is not right\nnote: more\n\n\nfailures:\n    b::c\n";

    #[test]
    fn a_failed_test_is_named_with_its_place_and_reason_and_all_is_passed_on() {
        let mut passed = Vec::new();
        let failures = pass_on(PRINTED.as_bytes(), &mut passed);
        assert_eq!(failures, ["b::c: thread 'b::c' panicked at src/lib.rs:1:2:: left is not right"]);
        assert_eq!(passed, PRINTED.as_bytes());
    }

    #[test]
    fn tests_that_die_are_named_by_cargo() {
        let told = "warning: x\nerror: test failed, to rerun pass `-p a --lib`\n\nCaused by:\n  process didn't exit \
                    successfully: `a` (signal: 9, SIGKILL: kill)\n";
        let expected = [
            "error: test failed, to rerun pass `-p a --lib`",
            "process didn't exit successfully: `a` (signal: 9, SIGKILL: kill)",
        ];
        assert_eq!(pass_on(told.as_bytes(), std::io::sink()), expected);
    }

    #[test]
    fn a_long_list_is_cut() {
        let failures: Vec<String> = (0..23).map(|index| format!("test {index}")).collect();
        let text = listed(&failures);
        assert!(text.ends_with("test 19\n            and 3 more"), "{text}");
        assert_eq!(listed(&[]), "");
    }

    #[test]
    fn the_error_of_a_failed_run_names_its_tests() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo '---- x stdout ----'; echo told >&2; exit 3"]);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let error = watched(&mut command, &mut out, &mut err).expect_err("it fails").to_string();
        assert!(error.starts_with("failed (exit status: 3): sh -c") && error.ends_with("\n            x"), "{error}");
        assert_eq!((out.as_slice(), err.as_slice()), (&b"---- x stdout ----\n"[..], &b"told\n"[..]));
    }
}
