//! What a run writes about itself while it goes on: rows of metrics, and checkpoints of where it stands.

use std::path::PathBuf;

use collimate_recipe::Recipe;
use collimate_report::tensorboard::{self, EventWriter};
use collimate_report::{ChosenAlarm, MetricsRow, MetricsWriter};

use crate::checkpoint::{self, TrainerState};
use crate::error::TrainError;
use crate::session::Session;

/// The rows of a run, in its folder.
#[derive(Debug)]
pub(super) struct Record {
    folder: PathBuf,
    pub(super) recipe_yaml: String,
    writer: MetricsWriter,
    events: Option<EventWriter>,
    pub(super) heard: Heard,
}

/// What is remembered of a run's rows, however many they are.
#[derive(Debug)]
pub(super) struct Heard {
    num_rows: usize,
    alarm: ChosenAlarm,
    /// The first recorded step's figures.
    pub(super) first: Option<MetricsRow>,
    /// The last step's figures.
    pub(super) last: Option<MetricsRow>,
    /// The first and the last evaluation.
    pub(super) evaluations: Vec<MetricsRow>,
    /// What the alarm said last.
    pub(super) chosen_alarm: Option<String>,
}

impl Record {
    /// Of a run that begins.
    pub(super) fn create(recipe: &Recipe, recipe_yaml: String) -> Result<Self, TrainError> {
        let folder = recipe.output_dir.clone();
        let writer = MetricsWriter::create(&folder.join("metrics.jsonl"))?;
        let events = tensorboard::for_run(recipe, &recipe_yaml, 0)?;
        Ok(Self { folder, recipe_yaml, writer, events, heard: Heard::new(recipe.alarm_chosen_drop) })
    }

    /// Of a run that goes on after so many steps and rows; a warning where some of them are lost.
    pub(super) fn resume(
        recipe: &Recipe,
        recipe_yaml: String,
        (step, num_rows): (usize, usize),
    ) -> Result<(Self, Option<String>), TrainError> {
        let folder = recipe.output_dir.clone();
        let path = folder.join("metrics.jsonl");
        let mut heard = Heard::new(recipe.alarm_chosen_drop);
        let hear = &mut |row| {
            heard.hear(row);
        };
        let (writer, kept) = MetricsWriter::resume(&path, num_rows, hear)?;
        let lost = num_rows - kept;
        let warning = (lost > 0).then(|| {
            format!("warning: {}: {lost} of {num_rows} rows are damaged or missing; the run goes on", path.display())
        });
        let events = tensorboard::for_run(recipe, &recipe_yaml, step + 1)?;
        Ok((Self { folder, recipe_yaml, writer, events, heard }, warning))
    }

    /// Takes a step's row, and writes it where it is `recorded`; what the alarm has to say of it.
    pub(super) fn step(&mut self, row: MetricsRow, recorded: bool) -> Result<Option<String>, TrainError> {
        if !recorded {
            return Ok(None);
        }
        self.write(&row)?;
        Ok(self.heard.hear(row))
    }

    /// Writes an evaluation's row.
    pub(super) fn evaluation(&mut self, row: MetricsRow) -> Result<(), TrainError> {
        self.write(&row)?;
        self.heard.hear(row);
        Ok(())
    }

    fn write(&mut self, row: &MetricsRow) -> Result<(), TrainError> {
        self.writer.write(row)?;
        Ok(self.events.as_mut().map_or(Ok(()), |events| events.row(row))?)
    }

    /// Whether the last evaluation was after so many finished steps.
    pub(super) fn has_evaluation(&self, step: usize) -> bool {
        self.heard.evaluations.last().is_some_and(|row| row.get("step") == Some(step as f64))
    }

    /// Writes a checkpoint of where the run stands, and how many rows there are.
    pub(super) fn save(
        &self,
        session: &dyn Session,
        state: &TrainerState,
        limit: Option<usize>,
    ) -> Result<PathBuf, TrainError> {
        self.writer.sync()?;
        let state = TrainerState { num_rows: self.heard.num_rows, ..state.clone() };
        checkpoint::save(&self.folder, session, &state, &self.recipe_yaml, limit)
    }
}

impl Heard {
    fn new(alarm: f64) -> Self {
        let alarm = ChosenAlarm::new(alarm);
        Self { num_rows: 0, alarm, first: None, last: None, evaluations: Vec::new(), chosen_alarm: None }
    }

    /// Takes a row; what the alarm has to say of it.
    fn hear(&mut self, row: MetricsRow) -> Option<String> {
        self.num_rows += 1;
        if row.names().any(|name| name.starts_with("eval_")) {
            self.evaluations.truncate(1);
            self.evaluations.push(row);
            return None;
        }
        let said = self.alarm.feed(&row);
        if self.first.is_none() {
            self.first = Some(row.clone());
        }
        self.last = Some(row);
        if said.is_some() {
            self.chosen_alarm.clone_from(&said);
        }
        said
    }
}
