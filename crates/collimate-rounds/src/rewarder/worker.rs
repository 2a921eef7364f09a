//! One worker: scores its share of the responses, restarting the process as often as necessary.

use collimate_data::counted;
use std::iter::Peekable;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use super::answer::{Request, Score};
use super::process::{Ending, NextLine, Process};
use super::requests::Requests;
use super::{Failure, OnFailure, RewardError, RewardOptions};

/// Consecutive failures without an answer after which a program is abandoned.
const MAX_BARREN: usize = 10;
/// How long a program without a timeout may keep running after its last answer.
const LAST_WAIT: Duration = Duration::from_secs(10);
/// How many rows a worker may be ahead of the row that is written next: their scores are in memory.
const ROWS_AHEAD: usize = 1 << 14;

/// A worker's report.
pub(super) enum Report {
    /// The answer for a response.
    Answer(Request, Result<Score, Failure>),
    /// The program did not start.
    NotStarted(RewardError),
}

pub(super) struct Worker<'a> {
    pub(super) options: &'a RewardOptions,
    /// Its responses.
    pub(super) requests: Requests,
    /// Set when no more answers are wanted.
    pub(super) is_over: &'a AtomicBool,
    /// The row that is written next.
    pub(super) next_row: &'a AtomicUsize,
    pub(super) reports: SyncSender<Report>,
}

/// The responses that are not answered yet.
struct Left {
    requests: Peekable<Requests>,
    count: usize,
}

/// What to do after a process.
enum Then {
    /// Stop: everything is answered, or no more answers are wanted.
    Done,
    /// Start another process for the rest.
    Restart,
}

impl Worker<'_> {
    /// Scores every response. If a process dies or hangs, the next one continues after the response that was pending.
    pub(super) fn run(&self) {
        let count = self.requests.clone().count();
        let mut left = Left { requests: self.requests.clone().peekable(), count };
        let mut barren = 0;
        while left.requests.peek().is_some() {
            let before = left.count;
            let process = match self.start(&left) {
                Ok(process) => process,
                Err(source) => {
                    let program = self.options.command.to_string();
                    return self.send(Report::NotStarted(RewardError::Start { program, source }));
                }
            };
            if matches!(self.converse(process, &mut left, barren + 1 >= MAX_BARREN), Then::Done) {
                return;
            }
            // The pending response is no longer left either.
            barren = if before - left.count > 1 { 0 } else { barren + 1 };
        }
    }

    fn start(&self, left: &Left) -> std::io::Result<Process> {
        let rows = Arc::clone(&self.requests.rows);
        Process::start(&self.options.command, rows.lines(left.requests.clone()))
    }

    /// Reads a process's answers.
    fn converse(&self, mut process: Process, left: &mut Left, last_chance: bool) -> Then {
        let begun = left.count;
        let is_over = || self.is_over.load(Ordering::SeqCst);
        let mut last = None;
        while let Some(&asked) = left.requests.peek() {
            last = Some(asked);
            while asked.row > self.next_row.load(Ordering::SeqCst) + ROWS_AHEAD && !is_over() {
                thread::sleep(Duration::from_millis(1));
            }
            let failure = match process.next_line(self.options.timeout, is_over) {
                NextLine::Canceled => return Then::Done,
                NextLine::Line(line) => {
                    let answer = Score::parse(&line, asked);
                    let answer = answer.map_err(|failure| Failure { stderr: process.stderr(), ..failure });
                    let unmatched = answer.as_ref().is_err_and(|failure| failure.unmatched);
                    self.send(Report::Answer(asked, answer));
                    if unmatched {
                        return Then::Done;
                    }
                    left.pass();
                    continue;
                }
                NextLine::TooLong(line) => {
                    let what = "printed a line too long for an answer";
                    ended(Failure::of_all(what).printing(&line), &process.kill())
                }
                NextLine::Ended => self.end_of_output(&process.end(), begun - left.count, begun),
                NextLine::Late => {
                    let seconds = self.options.timeout.unwrap_or_default().as_secs_f64();
                    let what = format!("did not answer within {seconds} s and was killed");
                    ended(Failure::of_response(what), &process.kill())
                }
            };
            let given_up = last_chance && left.count == begun;
            let what = if given_up { self.given_up(&failure.what) } else { failure.what };
            let failure = Failure { what, unmatched: failure.unmatched || given_up, ..failure };
            let then = if failure.unmatched { Then::Done } else { Then::Restart };
            self.send(Report::Answer(asked, Err(failure)));
            left.pass();
            return then;
        }
        self.after_the_last(process, last);
        Then::Done
    }

    fn given_up(&self, what: &str) -> String {
        format!("{what}; that was the {MAX_BARREN}th time in a row without an answer")
    }

    /// The output ended before all responses were answered.
    fn end_of_output(&self, ending: &Ending, answers: usize, asked: usize) -> Failure {
        if ending.is_success() {
            // It may have skipped any response, so none of its answers can be trusted.
            let what = format!(
                "printed {} for {}: it must print one for each",
                counted(answers, "line"),
                counted(asked, "response")
            );
            return ended(Failure::of_all(what), ending);
        }
        ended(Failure::of_response("ended before it answered"), ending)
    }

    /// Everything is answered: only the end of the output may follow.
    fn after_the_last(&self, mut process: Process, last: Option<Request>) {
        let Some(last) = last else { return };
        let is_over = || self.is_over.load(Ordering::SeqCst);
        let wait = Some(self.options.timeout.unwrap_or(LAST_WAIT));
        let failure = loop {
            match process.next_line(wait, is_over) {
                NextLine::Line(line) if line.trim().is_empty() => {}
                NextLine::Line(line) | NextLine::TooLong(line) => {
                    let count = self.requests.clone().count();
                    let what = format!("printed more than {count} lines for as many responses");
                    break ended(Failure::of_all(what).printing(&line), &process.kill());
                }
                NextLine::Late | NextLine::Canceled => return,
                NextLine::Ended => {
                    let ending = process.end();
                    if ending.is_success() || ending.status.is_none() || self.options.on_failure != OnFailure::Stop {
                        return;
                    }
                    break ended(Failure::of_all("answered, and then failed"), &ending);
                }
            }
        };
        self.send(Report::Answer(last, Err(failure)));
    }

    fn send(&self, report: Report) {
        // The receiver is gone if another worker failed.
        let _ = self.reports.send(report);
    }
}

impl Left {
    /// Goes on to the next response.
    fn pass(&mut self) {
        self.count -= usize::from(self.requests.next().is_some());
    }
}

/// Adds how the process ended.
fn ended(failure: Failure, ending: &Ending) -> Failure {
    Failure { status: ending.status(), stderr: ending.stderr.clone(), ..failure }
}
