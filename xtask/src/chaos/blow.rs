//! How a process is interrupted, and what it must make of it.

use std::process::{Child, Command, ExitStatus};

use anyhow::{Context, Result, bail};

use crate::chaos::phase::Phase;
use crate::chaos::random::Random;

/// How a process is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    /// SIGKILL: the process ends where it is.
    Kill,
    /// SIGTERM: it finishes its step, saves and ends with 143.
    Terminate,
    /// SIGINT: the same with 130.
    Interrupt,
    /// SIGINT twice: it ends at once.
    InterruptTwice,
}

/// The signals that ask a process to end by itself.
const POLITE: [Blow; 3] = [Blow::Terminate, Blow::Interrupt, Blow::InterruptTwice];
/// One of so many interruptions asks politely.
const ONE_POLITE_IN: usize = 5;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// What it returned, where it did.
    pub(crate) code: Option<i32>,
    /// The signal that ended it, where one did.
    pub(crate) signal: Option<i32>,
}

/// What an end means for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It came to its last step and result.
    Finished,
    /// It was ended, and is to be resumed.
    Ended,
    /// It ended itself when it was asked to, and must have saved.
    Stopped,
}

impl Blow {
    /// A kill, or where `polite` allows it now and then a signal that asks.
    pub(crate) fn draw(random: &mut Random, polite: bool) -> Self {
        if polite && random.below(ONE_POLITE_IN) == 0 { random.pick(&POLITE) } else { Self::Kill }
    }

    /// As people and results call it.
    pub(crate) fn name(self) -> &'static str {
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
    pub(crate) fn deal(self, child: &mut Child) -> Result<()> {
        match self {
            // An error says that the process has just ended by itself.
            Self::Kill => child.kill().or_else(|error| child.try_wait()?.map(|_| ()).ok_or(error)).context("kill"),
            Self::Terminate => send("TERM", child.id()),
            Self::Interrupt => send("INT", child.id()),
            Self::InterruptTwice => send("INT", child.id()).and_then(|()| send("INT", child.id())),
        }
    }

    /// What the end of a process that got it means; `phase` is where it was.
    ///
    /// # Errors
    /// The process failed, or did not do what it must; the message says which.
    pub(crate) fn judge(self, end: End, phase: Phase) -> Result<Verdict> {
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
            // Before the run has begun there is nothing to save, and the second of two signals need not be waited for.
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
            (None, None) => f.write_str("nothing known"),
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

/// The shell's own `kill`, which every system has, so that nothing unsafe is called here.
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
        assert_eq!(Blow::Kill.judge(signal(9), Phase::Steps).expect("fine"), Verdict::Ended);
        assert_eq!(Blow::Kill.judge(code(0), Phase::Export).expect("fine"), Verdict::Finished);
        for end in [code(1), code(2), code(137), signal(11)] {
            let error = Blow::Kill.judge(end, Phase::Steps).expect_err("a failure");
            assert_eq!(error.to_string(), format!("SIGKILL at steps: it ended with {end}"));
        }
    }

    #[test]
    fn who_is_asked_must_end_by_itself() {
        assert_eq!(Blow::Terminate.judge(code(143), Phase::Steps).expect("fine"), Verdict::Stopped);
        assert_eq!(Blow::Interrupt.judge(code(130), Phase::Reference).expect("fine"), Verdict::Stopped);
        assert_eq!(Blow::Interrupt.judge(code(0), Phase::Export).expect("fine"), Verdict::Finished);
        assert!(Blow::Terminate.judge(signal(15), Phase::Steps).is_err(), "nothing was saved");
        assert!(Blow::Terminate.judge(code(130), Phase::Steps).is_err(), "another signal's code");
        assert_eq!(Blow::Terminate.judge(signal(15), Phase::StartUp).expect("fine"), Verdict::Ended);
    }

    #[test]
    fn who_is_asked_twice_need_not_save() {
        for end in [code(130), signal(2)] {
            assert_eq!(Blow::InterruptTwice.judge(end, Phase::Steps).expect("fine"), Verdict::Ended);
        }
        assert!(Blow::InterruptTwice.judge(code(1), Phase::Steps).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn signals_reach_a_process() {
        // Not SIGINT, which a shell's background jobs ignore.
        for (blow, expected) in [(Blow::Kill, 9), (Blow::Terminate, 15)] {
            let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
            blow.deal(&mut child).expect("sent");
            assert_eq!(End::from(child.wait().expect("an end")), signal(expected));
        }
    }
}
