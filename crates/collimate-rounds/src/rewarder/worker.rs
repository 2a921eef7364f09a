//! One worker: its share of the responses, and a process for as long as it serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::answer::Score;
use super::process::{Ending, Heard, Process};
use super::rows::RewardRow;
use super::{Failure, OnFailure, RewardError, RewardOptions};

/// A process that ends or hangs so often before its first answer will not do better.
const MAX_BARREN: usize = 10;
/// How long a program without a time limit may run on after its last answer.
const LAST_WAIT: Duration = Duration::from_secs(10);

/// What a worker says.
pub(super) enum Report {
    /// Of the row and response with these numbers.
    Answer((usize, usize), Result<Score, Failure>),
    /// The program does not start.
    NotStarted(RewardError),
}

pub(super) struct Worker<'a> {
    pub(super) options: &'a RewardOptions,
    pub(super) rows: &'a Arc<Vec<RewardRow>>,
    /// Numbers of row and response, in the file's order.
    pub(super) requests: Vec<(usize, usize)>,
    /// Set where nobody wants answers any more.
    pub(super) is_over: &'a AtomicBool,
    pub(super) reports: Sender<Report>,
}

/// What follows a process.
enum Then {
    /// All is answered, or nobody asks any more.
    Done,
    /// Another process answers the rest.
    Restart,
}

impl Worker<'_> {
    /// Asks about every response. After a process that died or hung, the next one goes on behind the response that it owed.
    pub(super) fn run(&self) {
        let (mut done, mut barren) = (0, 0);
        while done < self.requests.len() {
            let before = done;
            let process = match self.start(done) {
                Ok(process) => process,
                Err(source) => {
                    let program = self.options.command.to_string();
                    return self.say(Report::NotStarted(RewardError::Start { program, source }));
                }
            };
            if matches!(self.converse(process, &mut done, barren + 1 >= MAX_BARREN), Then::Done) {
                return;
            }
            // One is counted for the response that was given up.
            barren = if done > before + 1 { 0 } else { barren + 1 };
        }
    }

    fn start(&self, done: usize) -> std::io::Result<Process> {
        let (rows, requests) = (Arc::clone(self.rows), self.requests[done..].to_vec());
        let lines = requests.into_iter().map(move |(index, response)| rows[index].request(index, response));
        Process::start(&self.options.command, lines)
    }

    /// Hears a process's answers.
    fn converse(&self, mut process: Process, done: &mut usize, last_chance: bool) -> Then {
        let begun = *done;
        let is_over = || self.is_over.load(Ordering::SeqCst);
        while *done < self.requests.len() {
            let asked = self.requests[*done];
            let failure = match process.hear(self.options.timeout, is_over) {
                Heard::CalledOff => return Then::Done,
                Heard::Line(line) => {
                    let answer = Score::parse(&line, asked);
                    let answer = answer.map_err(|failure| Failure { stderr: process.stderr(), ..failure });
                    let hopeless = answer.as_ref().is_err_and(|failure| failure.hopeless);
                    self.say(Report::Answer(asked, answer));
                    if hopeless {
                        return Then::Done;
                    }
                    *done += 1;
                    continue;
                }
                Heard::TooLong(line) => {
                    let what = "printed a line too long for an answer";
                    ended(Failure::of_all(what).printing(&line), &process.kill())
                }
                Heard::Ended => self.end_of_output(&process.end(), *done - begun, self.requests.len() - begun),
                Heard::Late => {
                    let seconds = self.options.timeout.unwrap_or_default().as_secs_f64();
                    let what = format!("did not answer within {seconds} s and was killed");
                    ended(Failure::of_response(what), &process.kill())
                }
            };
            let given_up = last_chance && *done == begun;
            let what = if given_up { self.given_up(&failure.what) } else { failure.what };
            let failure = Failure { what, hopeless: failure.hopeless || given_up, ..failure };
            let then = if failure.hopeless { Then::Done } else { Then::Restart };
            self.say(Report::Answer(asked, Err(failure)));
            *done += 1;
            return then;
        }
        self.after_the_last(process);
        Then::Done
    }

    fn given_up(&self, what: &str) -> String {
        format!("{what}; that was the {MAX_BARREN}th time in a row without an answer")
    }

    /// The output is at its end, but not the responses.
    fn end_of_output(&self, ending: &Ending, answers: usize, asked: usize) -> Failure {
        if ending.is_success() {
            // Nobody knows which response it passed over, so the answers may be of others than they seem.
            let what = format!("printed {answers} lines for {asked} responses: it must print one for each");
            return ended(Failure::of_all(what), ending);
        }
        ended(Failure::of_response("ended before it answered"), ending)
    }

    /// All is answered: nothing but the end may follow.
    fn after_the_last(&self, mut process: Process) {
        let Some(&last) = self.requests.last() else { return };
        let is_over = || self.is_over.load(Ordering::SeqCst);
        let wait = Some(self.options.timeout.unwrap_or(LAST_WAIT));
        let failure = loop {
            match process.hear(wait, is_over) {
                Heard::Line(line) if line.trim().is_empty() => {}
                Heard::Line(line) | Heard::TooLong(line) => {
                    let what = format!("printed more than {} lines for as many responses", self.requests.len());
                    break ended(Failure::of_all(what).printing(&line), &process.kill());
                }
                Heard::Late | Heard::CalledOff => return,
                Heard::Ended => {
                    let ending = process.end();
                    if ending.is_success() || ending.status.is_none() || self.options.on_failure != OnFailure::Stop {
                        return;
                    }
                    break ended(Failure::of_all("answered, and then failed"), &ending);
                }
            }
        };
        self.say(Report::Answer(last, Err(failure)));
    }

    fn say(&self, report: Report) {
        // Nobody listens where another worker failed.
        let _ = self.reports.send(report);
    }
}

/// The same with how the process ended.
fn ended(failure: Failure, ending: &Ending) -> Failure {
    Failure { status: ending.status(), stderr: ending.stderr.clone(), ..failure }
}
