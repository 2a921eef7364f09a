//! One short run: from its last checkpoint to a rung, and its score there.

use std::cmp::Ordering;
use std::path::Path;

use collimate_progress::StepPosition;
use collimate_recipe::{CacheFolder, IntervalStrategy, NumSteps, Recipe, Trackers};
use collimate_report::{MetricsRow, read_metrics};
use collimate_train::{Observer, RunControl, StopFlag, TrainError, train};
use serde::{Deserialize, Serialize};

use crate::error::TuneError;
use crate::ladder::Ladder;

/// What stops a run at a rung; no signal has this number.
const AT_RUNG: usize = usize::MAX;

/// How good a run is after some steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Finished steps.
    pub step: usize,
    /// `eval_rewards/accuracies`.
    pub accuracy: f64,
    /// `eval_logps/chosen`, in nats: it decides between equals, since it does not depend on β and α.
    pub chosen_logp: f64,
    /// The mean reward of sampled answers to held-out prompts, if there is a program for it: it decides then.
    pub reward: Option<f64>,
}

impl Score {
    /// The number that decides.
    pub fn value(&self) -> f64 {
        self.reward.unwrap_or(self.accuracy)
    }

    /// `Less` if this one is the better: by its value, then by the log-prob of the chosen responses.
    pub fn rank(&self, other: &Self) -> Ordering {
        let by_value = other.value().total_cmp(&self.value());
        by_value.then(other.chosen_logp.total_cmp(&self.chosen_logp))
    }
}

/// The recipe of a short run in its folder. All of a tuning have the same steps, schedule, data and caches.
pub(crate) fn short(recipe: &Recipe, ladder: &Ladder, work: &Path, name: &str) -> Recipe {
    let cache = |cache: &CacheFolder, name: &str| match cache {
        CacheFolder::Off => CacheFolder::Folder(work.join(name)),
        cache => cache.clone(),
    };
    Recipe {
        output_dir: work.join(name),
        max_steps: i64::try_from(ladder.total_steps()).unwrap_or(i64::MAX),
        eval_strategy: IntervalStrategy::Steps,
        eval_steps: NumSteps::Count(ladder.steps.first().copied().unwrap_or(0)),
        save_strategy: IntervalStrategy::Steps,
        save_steps: NumSteps::Count(0),
        save_total_limit: Some(1),
        load_best_model_at_end: false,
        early_stopping_patience: None,
        stop_on_drift: Default::default(),
        sample_prompts: 0,
        tensorboard: false,
        trackers: Trackers::default(),
        log_file: None,
        // One reference for all runs, scored once.
        reference_cache: cache(&recipe.reference_cache, "reference"),
        token_cache: cache(&recipe.token_cache, "tokens"),
        ..recipe.clone()
    }
}

/// Takes a run to the evaluation after `until` steps, unless it was there before; `None` if a figure of it is not finite.
///
/// # Errors
/// The run cannot start, fails otherwise, or a stop was requested.
pub(crate) fn advance(
    recipe: &Recipe,
    until: usize,
    stop: &StopFlag,
    observer: &mut dyn Observer,
) -> Result<Option<Score>, TuneError> {
    if let Some(score) = score_at(&recipe.output_dir, until)? {
        return Ok(Some(score));
    }
    let folder = &recipe.output_dir;
    let begun = ["recipe.yaml", "metrics.jsonl"].iter().any(|name| folder.join(name).exists());
    let run_stop = StopFlag::default();
    let is_last = usize::try_from(recipe.max_steps).is_ok_and(|steps| steps <= until);
    let control = RunControl { resume: begun, stop: run_stop.clone() };
    let mut watcher = Watcher { observer, until: (!is_last).then_some(until), stop, run_stop };
    match train(recipe, &mut watcher, &control) {
        Ok(_) => {}
        Err(TrainError::Interrupted { signal: AT_RUNG, .. }) => {}
        Err(TrainError::NotFinite { .. } | TrainError::WeightsNotFinite { .. } | TrainError::RowNotFinite { .. }) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    }
    score_at(folder, until)
}

/// The score of a run after so many steps, if it was evaluated then.
fn score_at(run: &Path, step: usize) -> Result<Option<Score>, TuneError> {
    Ok(curve(run)?.into_iter().find(|score| score.step == step))
}

/// All scores of a run, without rewards; none if it has not begun.
pub(crate) fn curve(run: &Path) -> Result<Vec<Score>, TuneError> {
    let path = run.join("metrics.jsonl");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let rows = read_metrics(&path).map_err(TrainError::from)?;
    Ok(rows.iter().filter_map(score).collect())
}

fn score(row: &MetricsRow) -> Option<Score> {
    let step = row.get("step").filter(|_| row.names().any(|name| name == "eval_loss"))?;
    // A tie of all rewards has no accuracy, and is no reason to leave the run out.
    let figure = |name: &str| row.get(name).filter(|value| value.is_finite());
    let accuracy = figure("eval_rewards/accuracies").unwrap_or(0.0);
    Some(Score { step: step as usize, accuracy, chosen_logp: figure("eval_logps/chosen")?, reward: None })
}

/// Passes a run's progress on, and ends it at its rung or when a stop is requested.
struct Watcher<'a> {
    observer: &'a mut dyn Observer,
    /// Steps after whose evaluation the run ends; `None` if it ends by itself.
    until: Option<usize>,
    /// The request to stop everything.
    stop: &'a StopFlag,
    /// That of this run.
    run_stop: StopFlag,
}

impl Watcher<'_> {
    fn pass_stop_on(&self) {
        self.stop.requested().into_iter().for_each(|signal| self.run_stop.request(signal));
    }
}

impl Observer for Watcher<'_> {
    fn stage(&mut self, name: &str, total: Option<u64>) {
        self.observer.stage(name, total);
    }

    fn advance(&mut self, n: u64) {
        self.observer.advance(n);
        self.pass_stop_on();
    }

    fn note(&mut self, text: &str) {
        // What every run says again would hide what is new.
        if text.starts_with("warning: ") {
            self.observer.note(text);
        }
    }

    fn step(&mut self, row: &MetricsRow) {
        self.observer.step(row);
        let step = row.get("step").map(|step| step as usize);
        let is_evaluation = row.names().any(|name| name == "eval_loss");
        if is_evaluation && self.until.is_some_and(|until| step >= Some(until)) {
            self.run_stop.request(AT_RUNG);
        }
        self.pass_stop_on();
    }

    fn position(&mut self, name: &str, position: &StepPosition) {
        self.observer.position(name, position);
        self.pass_stop_on();
    }

    fn finish(&mut self) {
        self.observer.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reward_decides_then_the_accuracy_then_the_chosen_log_prob() {
        let score = |accuracy, chosen_logp, reward| Score { step: 4, accuracy, chosen_logp, reward };
        let mut scores = [score(0.5, -1.0, None), score(0.75, -9.0, None), score(0.75, -3.0, None)];
        scores.sort_by(Score::rank);
        assert_eq!(scores.map(|score| score.chosen_logp), [-3.0, -9.0, -1.0]);
        let mut scores = [score(0.9, -1.0, Some(0.25)), score(0.1, -9.0, Some(0.5))];
        scores.sort_by(Score::rank);
        assert_eq!(scores[0].accuracy, 0.1);
    }
}
