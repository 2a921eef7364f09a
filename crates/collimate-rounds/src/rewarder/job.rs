//! Scores all responses of a file with several workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use collimate_train::RunContext;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::answer::{Request, Score};
use super::rows::RewardRow;
use super::worker::{Report, Worker};
use super::{Failure, OnFailure, RewardError, RewardOptions};

/// Rows with the scores of their responses.
#[derive(Debug)]
pub struct Rewarded {
    rows: Arc<Vec<RewardRow>>,
    /// By row and response; `None` drops the response.
    scores: Vec<Vec<Option<Score>>>,
    /// Responses that the program gave no score for.
    pub num_failed: usize,
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

/// Scores every response; returns `None` if a stop was requested.
///
/// Row i goes to worker i mod N with all its responses, so the requests of a process do not depend on how fast the others are.
///
/// # Errors
/// The program does not start; it fails and `on_failure` is `Stop`; its answers cannot be matched to responses.
pub fn reward_rows(
    rows: Vec<RewardRow>,
    options: &RewardOptions,
    context: &mut RunContext<'_>,
) -> Result<Option<Rewarded>, RewardError> {
    let rows = Arc::new(rows);
    let total: usize = rows.iter().map(RewardRow::num_responses).sum();
    context.observer.stage("rewards", Some(total as u64));
    let is_over = AtomicBool::new(false);
    let num_workers = options.workers.clamp(1, rows.len());
    let collected = thread::scope(|scope| {
        let (sender, reports) = channel();
        for number in 0..num_workers {
            let requests = (number..rows.len()).step_by(num_workers);
            let requests =
                requests.flat_map(|row| (0..rows[row].num_responses()).map(move |response| Request { row, response }));
            let (requests, reports) = (requests.collect(), sender.clone());
            let worker = Worker { options, rows: &rows, requests, is_over: &is_over, reports };
            scope.spawn(move || worker.run());
        }
        drop(sender);
        let collected = collect(&rows, &reports, options, context);
        is_over.store(true, Ordering::SeqCst);
        collected
    });
    context.observer.finish();
    Ok(collected?.map(|(scores, num_failed)| Rewarded { rows, scores, num_failed }))
}

type Scores = Vec<Vec<Option<Score>>>;

/// Collects the workers' reports until all are done.
fn collect(
    rows: &[RewardRow],
    reports: &Receiver<Report>,
    options: &RewardOptions,
    context: &mut RunContext<'_>,
) -> Result<Option<(Scores, usize)>, RewardError> {
    let mut scores: Scores = rows.iter().map(|row| vec![None; row.num_responses()]).collect();
    let mut num_failed = 0;
    loop {
        if context.stop.requested().is_some() {
            return Ok(None);
        }
        let (Request { row, response }, answer) = match reports.recv_timeout(Duration::from_millis(50)) {
            Ok(Report::Answer(asked, answer)) => (asked, answer),
            Ok(Report::NotStarted(error)) => return Err(error),
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Ok(Some((scores, num_failed))),
        };
        let failed = |failure: Failure| {
            let (path, line) = (rows[row].path.clone(), rows[row].line);
            RewardError::Failed { path, line, response, failure: Box::new(failure) }
        };
        scores[row][response] = match (answer, options.on_failure) {
            (Ok(score), _) => Some(score),
            (Err(failure), OnFailure::Stop) => return Err(failed(failure)),
            (Err(failure), _) if failure.unmatched => return Err(failed(failure)),
            (Err(failure), otherwise) => {
                num_failed += 1;
                if num_failed == 1 {
                    context.observer.note(&format!("warning: {}", failed(failure)));
                }
                match otherwise {
                    OnFailure::Reward(reward) => Some(Score { reward, scores: Map::new() }),
                    _ => None,
                }
            }
        };
        context.observer.advance(1);
    }
}

impl Rewarded {
    /// The rows with their rewards, in the file's order. Drops responses without a reward and those whose text `keep`
    /// rejects; drops a row that is left with fewer than two responses because of it.
    pub fn rows<'a>(&'a self, keep: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = Value> + 'a {
        self.rows.iter().zip(&self.scores).filter_map(move |(row, scores)| {
            let mut scored = row.clone();
            for (response, score) in scores.iter().enumerate() {
                score.iter().for_each(|score| scored.set_score(response, score.clone()));
            }
            let wanted = |k: usize, text: &str| scores[k].is_some() && keep(text);
            scored.with_responses(row.num_responses().clamp(1, 2), wanted)
        })
    }

    /// Summary statistics.
    pub fn summary(&self) -> RewardSummary {
        let mean = |values: &[f64]| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
        let rewards = |scores: &'_ Vec<Option<Score>>| scores.iter().flatten().map(|score| score.reward).collect();
        let by_row: Vec<Vec<f64>> = self.scores.iter().map(rewards).collect();
        let best = by_row.iter().filter_map(|rewards| rewards.iter().copied().reduce(f64::max));
        RewardSummary {
            num_rows: self.rows.len(),
            num_responses: self.scores.iter().map(Vec::len).sum(),
            num_failed: self.num_failed,
            mean: mean(&by_row.concat()),
            best: mean(&best.collect::<Vec<_>>()),
        }
    }
}
