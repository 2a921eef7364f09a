//! The signals that interrupt a process, and how it must react.

use std::process::{Child, Command, ExitStatus};

use anyhow::{Context, Result, bail};
use rand::Rng;
use rand::seq::IndexedRandom;

use crate::phase::Phase;
use crate::random::Random;

/// How a process is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGKILL: the process ends immediately.
    Kill,
    /// SIGTERM: it finishes its step, saves and ends with 143.
    Terminate,
    /// SIGINT: the same with 130.
    Interrupt,
    /// SIGINT twice: it ends immediately.
    InterruptTwice,
}

/// The signals that a process can handle.
const POLITE: [Signal; 3] = [Signal::Terminate, Signal::Interrupt, Signal::InterruptTwice];
/// Fraction of the interruptions that are not kills.
const POLITE_SHARE: f64 = 0.2;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Its exit code, if it exited.
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
}

/// What the end of a process means for its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It ran to completion.
    Finished,
    /// It was ended and must be resumed.
    Ended,
    /// It ended itself on request, so it must have saved.
    Stopped,
}

impl Signal {
    /// A kill or, if `polite`, now and then a signal that the process handles.
    pub(crate) fn draw(random: &mut Random, polite: bool) -> Self {
        if polite && random.random_bool(POLITE_SHARE) {
            POLITE.choose(random).copied().unwrap_or(Self::Terminate)
        } else {
            Self::Kill
        }
    }

    /// Its name in logs and results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL",
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
            Self::InterruptTwice => "SIGINT twice",
        }
    }

    /// Sends it.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub(crate) fn send_to(self, child: &mut Child) -> Result<()> {
        match self {
            // Killing fails if the process has just ended on its own.
            Self::Kill => child.kill().or_else(|error| child.try_wait()?.map(|_| ()).ok_or(error)).context("kill"),
            Self::Terminate => send("TERM", child.id()),
            Self::Interrupt => send("INT", child.id()),
            Self::InterruptTwice => send("INT", child.id()).and_then(|()| send("INT", child.id())),
        }
    }

    /// What the end of a process that received it at `phase` means for the run.
    ///
    /// # Errors
    /// The process failed, or did not end as the signal demands.
    pub(crate) fn verdict(self, end: End, phase: Phase) -> Result<Verdict> {
        let (code, signal) = match self {
            Self::Kill => (None, 9),
            Self::Terminate => (Some(143), 15),
            Self::Interrupt | Self::InterruptTwice => (Some(130), 2),
        };
        match end {
            End { code: Some(0), .. } => Ok(Verdict::Finished),
            End { signal: Some(found), .. } if self == Self::Kill && found == signal => Ok(Verdict::Ended),
            End { code: Some(found), .. } if code == Some(found) => {
                Ok(if self == Self::InterruptTwice { Verdict::Ended } else { Verdict::Stopped })
            }
            // Before the run begins there is nothing to save, and a second signal ends the process immediately.
            End { signal: Some(found), .. }
                if found == signal && (phase == Phase::StartUp || self == Self::InterruptTwice) =>
            {
                Ok(Verdict::Ended)
            }
            _ => bail!("{} at {}: it ended with {end}", self.name(), phase.name()),
        }
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => f.write_str("an unknown status"),
        }
    }
}

impl From<ExitStatus> for End {
    fn from(status: ExitStatus) -> Self {
        #[cfg(unix)]
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        #[cfg(not(unix))]
        let signal = None;
        Self { code: status.code(), signal }
    }
}

/// Sends a signal with the shell's `kill`, since the system call would need `unsafe`.
fn send(signal: &str, id: u32) -> Result<()> {
    let status = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", signal, &id.to_string()]).status();
    let status = status.context("cannot start sh")?;
    if !status.success() {
        bail!("SIG{signal} cannot be sent to process {id}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(code: i32) -> End {
        End { code: Some(code), signal: None }
    }

    fn signal(signal: i32) -> End {
        End { code: None, signal: Some(signal) }
    }

    #[test]
    fn a_kill_ends_a_process_or_comes_too_late() {
        assert_eq!(Signal::Kill.verdict(signal(9), Phase::Steps).expect("fine"), Verdict::Ended);
        assert_eq!(Signal::Kill.verdict(code(0), Phase::Export).expect("fine"), Verdict::Finished);
        for end in [code(1), code(2), code(137), signal(11)] {
            let error = Signal::Kill.verdict(end, Phase::Steps).expect_err("a failure");
            assert_eq!(error.to_string(), format!("SIGKILL at steps: it ended with {end}"));
        }
    }

    #[test]
    fn a_process_that_is_asked_to_end_must_exit_by_itself() {
        assert_eq!(Signal::Terminate.verdict(code(143), Phase::Steps).expect("fine"), Verdict::Stopped);
        assert_eq!(Signal::Interrupt.verdict(code(130), Phase::Reference).expect("fine"), Verdict::Stopped);
        assert_eq!(Signal::Interrupt.verdict(code(0), Phase::Export).expect("fine"), Verdict::Finished);
        assert!(Signal::Terminate.verdict(signal(15), Phase::Steps).is_err(), "nothing was saved");
        assert!(Signal::Terminate.verdict(code(130), Phase::Steps).is_err(), "another signal's code");
        assert_eq!(Signal::Terminate.verdict(signal(15), Phase::StartUp).expect("fine"), Verdict::Ended);
    }

    #[test]
    fn a_process_that_is_asked_twice_need_not_save() {
        for end in [code(130), signal(2)] {
            assert_eq!(Signal::InterruptTwice.verdict(end, Phase::Steps).expect("fine"), Verdict::Ended);
        }
        assert!(Signal::InterruptTwice.verdict(code(1), Phase::Steps).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn signals_reach_a_process() {
        // Not SIGINT, which a shell's background jobs ignore.
        for (sent, expected) in [(Signal::Kill, 9), (Signal::Terminate, 15)] {
            let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
            sent.send_to(&mut child).expect("sent");
            assert_eq!(End::from(child.wait().expect("an end")), signal(expected));
        }
    }
}
