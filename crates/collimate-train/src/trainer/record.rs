//! Records a run as it goes: metrics rows and checkpoints.

use collimate_data::{counted, either};
use std::path::PathBuf;

use collimate_collective::Collective;
use collimate_files::{ShardSize, write_atomically};
use collimate_recipe::Recipe;
use collimate_report::tensorboard::{self, EventWriter};
use collimate_report::trackers::{self, TrackedRun, Tracker};
use collimate_report::{ChosenAlarm, Judge, MetricsRow, MetricsWriter, RunFacts};
use collimate_weights::StorageDtype;

use crate::error::TrainError;
use collimate_checkpoint::{Kept, TrainerState};
use collimate_session::Session;

/// The growing files of a run, and a digest of their rows.
#[derive(Debug)]
pub(super) struct Record {
    folder: PathBuf,
    pub(super) recipe_yaml: String,
    writer: MetricsWriter,
    events: Option<EventWriter>,
    trackers: Vec<Tracker>,
    pub(super) history: RowHistory,
}

/// What a checkpoint has of a run.
#[derive(Clone, Copy)]
pub(super) struct Saved<'a> {
    pub(super) session: &'a dyn Session,
    pub(super) state: &'a TrainerState,
    /// The ranks that have the optimizer's moments.
    pub(super) world: &'a dyn Collective,
}

/// The digest of a run's rows, of constant size.
#[derive(Debug)]
pub(super) struct RowHistory {
    num_rows: usize,
    alarm: ChosenAlarm,
    pub(super) judge: Judge,
    /// The first recorded step's figures.
    pub(super) first: Option<MetricsRow>,
    /// The last recorded step's figures.
    pub(super) last: Option<MetricsRow>,
    /// The first and the last evaluation.
    pub(super) evaluations: Vec<MetricsRow>,
    /// The alarm's last warning.
    pub(super) chosen_alarm: Option<String>,
}

/// Writes the resolved recipe into the run's folder.
pub(super) fn write_recipe(recipe: &Recipe) -> Result<(), TrainError> {
    Ok(write_atomically(&recipe.output_dir.join("recipe.yaml"), recipe.resolved_yaml()?.as_bytes())?)
}

impl Record {
    /// Starts the files of a new run.
    pub(super) fn create(recipe: &Recipe, recipe_yaml: String, facts: &RunFacts) -> Result<Self, TrainError> {
        let folder = recipe.output_dir.clone();
        let writer = MetricsWriter::create(&folder.join("metrics.jsonl"))?;
        let events = tensorboard::for_run(recipe, &recipe_yaml, 0)?;
        Ok(Self { folder, recipe_yaml, writer, events, trackers: Vec::new(), history: RowHistory::new(facts) })
    }

    /// Continues the files of a run from a checkpoint; returns a warning if rows are lost.
    pub(super) fn resume(
        recipe: &Recipe,
        recipe_yaml: String,
        facts: &RunFacts,
        state: &TrainerState,
    ) -> Result<(Self, Option<String>), TrainError> {
        let folder = recipe.output_dir.clone();
        let path = folder.join("metrics.jsonl");
        let num_rows = state.num_rows;
        let mut history = RowHistory::new(facts);
        let (writer, kept) = MetricsWriter::resume(&path, num_rows, &mut |row| {
            history.add(row);
        })?;
        let lost = num_rows - kept;
        let warning = (lost > 0).then(|| {
            format!(
                "warning: {}: {lost} of {} {} damaged or missing; the run continues",
                path.display(),
                counted(num_rows, "row"),
                either(lost, "is", "are")
            )
        });
        let events = tensorboard::for_run(recipe, &recipe_yaml, state.global_step + 1)?;
        Ok((Self { folder, recipe_yaml, writer, events, trackers: Vec::new(), history }, warning))
    }

    /// Starts the trackers that the recipe names; returns why some do not start.
    pub(super) fn track(&mut self, recipe: &Recipe, run: TrackedRun<'_>) -> Vec<String> {
        let (trackers, problems) = trackers::start(recipe.trackers.names(), run);
        self.trackers = trackers;
        problems
    }

    /// Writes a step's row; returns the alarm's warning, if any.
    pub(super) fn step(&mut self, row: MetricsRow) -> Result<Option<String>, TrainError> {
        self.write(&row)?;
        Ok(self.history.add(row))
    }

    /// Writes an evaluation's row.
    pub(super) fn evaluation(&mut self, row: MetricsRow) -> Result<(), TrainError> {
        self.write(&row)?;
        self.history.add(row);
        Ok(())
    }

    fn write(&mut self, row: &MetricsRow) -> Result<(), TrainError> {
        self.writer.write(row)?;
        self.trackers.iter_mut().for_each(|tracker| tracker.row(row));
        Ok(self.events.as_mut().map_or(Ok(()), |events| events.row(row))?)
    }

    /// Whether the last evaluation was after `finished_steps` steps.
    pub(super) fn has_evaluation(&self, finished_steps: usize) -> bool {
        self.history.evaluations.last().is_some_and(|row| row.get("step") == Some(finished_steps as f64))
    }

    /// Writes a checkpoint, and removes those that it supersedes.
    pub(super) fn save(&self, saved: &Saved<'_>, recipe: &Recipe) -> Result<PathBuf, TrainError> {
        let Saved { session, state, world } = *saved;
        // The rows that a checkpoint counts must reach the disk before it does.
        self.writer.sync()?;
        let state = TrainerState { num_rows: self.history.num_rows, ..state.clone() };
        if let Some(parameter) = session.nonfinite_parameter() {
            return Err(TrainError::WeightsNotFinite { step: state.global_step, parameter });
        }
        let best = state.standing.best.filter(|_| recipe.load_best_model_at_end).map(|best| best.step);
        let kept = Kept { recipe_yaml: &self.recipe_yaml, limit: recipe.save_total_limit, best };
        collimate_checkpoint::save(&self.folder, &state, &kept, |folder| {
            session.save_model(folder, StorageDtype::F32, ShardSize::default())?;
            Ok::<_, TrainError>(session.save_optimizer(folder, world)?)
        })
    }
}

impl RowHistory {
    fn new(facts: &RunFacts) -> Self {
        let (alarm, judge) = (ChosenAlarm::new(facts), Judge::default());
        Self { num_rows: 0, alarm, judge, first: None, last: None, evaluations: Vec::new(), chosen_alarm: None }
    }

    /// Adds a row; returns the alarm's warning, if any.
    fn add(&mut self, row: MetricsRow) -> Option<String> {
        self.num_rows += 1;
        self.judge.feed(&row);
        if row.names().any(|name| name.starts_with("eval_")) {
            self.evaluations.truncate(1);
            self.evaluations.push(row);
            return None;
        }
        let warning = self.alarm.feed(&row);
        if self.first.is_none() {
            self.first = Some(row.clone());
        }
        self.last = Some(row);
        if warning.is_some() {
            self.chosen_alarm.clone_from(&warning);
        }
        warning
    }
}
