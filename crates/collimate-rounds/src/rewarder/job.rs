//! Scores all responses of a file with several workers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use collimate_train::RunContext;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::answer::{Request, Score};
use super::requests::{Requests, RewardRows};
use super::rows::RewardRow;
use super::worker::{Report, Worker};
use super::{Failure, OnFailure, RewardError, RewardOptions};

/// A row with the scores of its responses.
#[derive(Debug)]
pub struct ScoredRow {
    row: RewardRow,
    /// By response; `None` drops it.
    scores: Vec<Option<Score>>,
}

/// Summary statistics of rewards.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RewardSummary {
    /// Rows, with or without rewards.
    pub num_rows: usize,
    /// Responses, with or without rewards.
    pub num_responses: usize,
    /// Responses that the program gave no score for.
    pub num_failed: usize,
    /// Mean over all responses with a reward; `None` if there are none.
    pub mean: Option<f64>,
    /// Mean over rows of the highest reward in a row.
    pub best: Option<f64>,
}

/// Scores every response and hands the rows to `write`, in the file's order; returns `None` if a stop was requested.
///
/// Row i goes to worker i mod N with all its responses, so the requests of a process do not depend on how fast the others are.
///
/// # Errors
/// The program does not start; it fails and `on_failure` is `Stop`; its answers cannot be matched to responses; `write`
/// fails. Rows were written by then, so only what is complete may be used.
pub fn reward_rows<E: From<RewardError>>(
    rows: RewardRows,
    options: &RewardOptions,
    context: &mut RunContext<'_>,
    write: &mut dyn FnMut(&ScoredRow) -> Result<(), E>,
) -> Result<Option<RewardSummary>, E> {
    let rows = Arc::new(rows);
    let total: u64 = (0..rows.len()).map(|row| rows.num_responses(row) as u64).sum();
    context.observer.stage("rewards", Some(total));
    let (is_over, next_row) = (AtomicBool::new(false), AtomicUsize::new(0));
    let num_workers = options.workers.clamp(1, rows.len());
    let written = thread::scope(|scope| {
        // Dropped on return, so that no worker waits for it.
        let (sender, reports) = sync_channel(REPORTS_AHEAD);
        for number in 0..num_workers {
            let next = Request { row: number, response: 0 };
            let requests = Requests { rows: Arc::clone(&rows), step: num_workers, next };
            let (is_over, next_row, reports) = (&is_over, &next_row, sender.clone());
            let worker = Worker { options, requests, is_over, next_row, reports };
            scope.spawn(move || worker.run());
        }
        drop(sender);
        let job = Job { rows: &rows, options, next_row: &next_row, waiting: HashMap::new(), totals: Totals::default() };
        let written = job.collect(reports, context, write);
        is_over.store(true, Ordering::SeqCst);
        written
    });
    context.observer.finish();
    written
}

/// Answers that wait to be collected.
const REPORTS_AHEAD: usize = 1024;

/// Scores of a row that is not written yet.
struct Waiting {
    scores: Vec<Option<Score>>,
    /// Responses without an answer.
    left: usize,
}

struct Job<'a> {
    rows: &'a RewardRows,
    options: &'a RewardOptions,
    /// The row to write next.
    next_row: &'a AtomicUsize,
    /// By row.
    waiting: HashMap<usize, Waiting>,
    totals: Totals,
}

impl Job<'_> {
    /// Collects the workers' reports until all are done.
    fn collect<E: From<RewardError>>(
        mut self,
        reports: Receiver<Report>,
        context: &mut RunContext<'_>,
        write: &mut dyn FnMut(&ScoredRow) -> Result<(), E>,
    ) -> Result<Option<RewardSummary>, E> {
        self.write_complete(write)?;
        loop {
            if context.stop.requested().is_some() {
                return Ok(None);
            }
            let (asked, answer) = match reports.recv_timeout(Duration::from_millis(50)) {
                Ok(Report::Answer(asked, answer)) => (asked, answer),
                Ok(Report::NotStarted(error)) => return Err(error.into()),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ok(Some(self.totals.summary())),
            };
            if let Some(fault) = self.rows.fault() {
                return Err(RewardError::from(fault).into());
            }
            let score = self.score(asked, answer, context)?;
            let count = self.rows.num_responses(asked.row);
            let new = || Waiting { scores: vec![None; count], left: count };
            let waiting = self.waiting.entry(asked.row).or_insert_with(new);
            waiting.scores[asked.response] = score;
            waiting.left -= 1;
            context.observer.advance(1);
            self.write_complete(write)?;
        }
    }

    /// The score of an answer, or of none.
    fn score(
        &mut self,
        Request { row, response }: Request,
        answer: Result<Score, Failure>,
        context: &mut RunContext<'_>,
    ) -> Result<Option<Score>, RewardError> {
        let failure = match answer {
            Ok(score) => return Ok(Some(score)),
            Err(failure) => failure,
        };
        let is_fatal = self.options.on_failure == OnFailure::Stop || failure.unmatched;
        let (path, line) = self.rows.location(row);
        let error = RewardError::Failed { path: path.to_owned(), line, response, failure: Box::new(failure) };
        if is_fatal {
            return Err(error);
        }
        self.totals.num_failed += 1;
        if self.totals.num_failed == 1 {
            context.observer.note(&format!("warning: {error}"));
        }
        Ok(match self.options.on_failure {
            OnFailure::Reward(reward) => Some(Score { reward, scores: Map::new() }),
            _ => None,
        })
    }

    /// Writes the next rows as long as their responses are answered.
    fn write_complete<E: From<RewardError>>(
        &mut self,
        write: &mut dyn FnMut(&ScoredRow) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let row = self.next_row.load(Ordering::SeqCst);
            let is_complete = row < self.rows.len()
                && match self.waiting.get(&row) {
                    Some(waiting) => waiting.left == 0,
                    None => self.rows.num_responses(row) == 0,
                };
            if !is_complete {
                return Ok(());
            }
            let scores = self.waiting.remove(&row).map(|waiting| waiting.scores).unwrap_or_default();
            self.totals.add(&scores);
            let mut scored = ScoredRow { row: self.rows.get(row).map_err(RewardError::from)?, scores };
            for (response, score) in scored.scores.iter().enumerate() {
                score.iter().for_each(|score| scored.row.set_score(response, score.clone()));
            }
            write(&scored)?;
            self.next_row.store(row + 1, Ordering::SeqCst);
        }
    }
}

impl ScoredRow {
    /// The row with its rewards. Drops responses without a reward and those whose text `keep` rejects; `None` if the row is
    /// left with fewer than two responses because of it.
    pub fn kept(&self, keep: impl Fn(&str) -> bool) -> Option<Value> {
        let wanted = |k: usize, text: &str| self.scores[k].is_some() && keep(text);
        self.row.with_responses(self.scores.len().clamp(1, 2), wanted)
    }
}

/// Sums over the rows so far.
#[derive(Debug)]
struct Totals {
    num_rows: usize,
    num_responses: usize,
    num_failed: usize,
    rewards: Mean,
    best: Mean,
}

impl Default for Totals {
    fn default() -> Self {
        Self { num_rows: 0, num_responses: 0, num_failed: 0, rewards: Mean::NONE, best: Mean::NONE }
    }
}

impl Totals {
    fn add(&mut self, scores: &[Option<Score>]) {
        self.num_rows += 1;
        self.num_responses += scores.len();
        let rewards = || scores.iter().flatten().map(|score| score.reward);
        rewards().for_each(|reward| self.rewards.add(reward));
        rewards().reduce(f64::max).iter().for_each(|best| self.best.add(*best));
    }

    fn summary(&self) -> RewardSummary {
        let Self { num_rows, num_responses, num_failed, rewards, best } = self;
        RewardSummary {
            num_rows: *num_rows,
            num_responses: *num_responses,
            num_failed: *num_failed,
            mean: rewards.get(),
            best: best.get(),
        }
    }
}

/// A mean, number by number.
#[derive(Debug, Clone, Copy)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    /// Of no numbers. A sum of none is negative zero, the number that changes no other.
    const NONE: Self = Self { sum: -0.0, count: 0 };

    fn add(&mut self, number: f64) {
        self.sum += number;
        self.count += 1;
    }

    fn get(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}
