//! The files of a run while it takes its steps: its record and its page. Only the first of several ranks has them.

use std::path::{Path, PathBuf};

use collimate_recipe::Recipe;
use collimate_report::trackers::TrackedRun;
use collimate_report::{LivePage, MetricsRow};

use super::page::describe;
use super::record::{Record, RowHistory, Saved, write_recipe};
use super::run::Run;
use super::start::Start;
use crate::control::RunContext;
use crate::error::TrainError;
use collimate_session::Session;

/// The record of a run, and its page.
pub(super) struct Books {
    pub(super) record: Record,
    pub(super) page: LivePage,
}

impl Books {
    /// Begins the files of a run, or goes on with them where a checkpoint left them.
    pub(super) fn begin(
        run: &Run<'_>,
        session: &dyn Session,
        start: &Start<'_>,
        context: &mut RunContext<'_>,
    ) -> Result<Self, TrainError> {
        let (folder, recipe_yaml) = (run.recipe.output_dir.clone(), run.given.resolved_yaml()?);
        let page = LivePage::begin(folder, describe(run, session), start.begun, start.checkpoint.is_some())?;
        let facts = page.facts(&recipe_yaml);
        let mut record = match &start.checkpoint {
            Some(checkpoint) => {
                let (record, warning) = Record::resume(run.recipe, recipe_yaml, &facts, &checkpoint.state)?;
                warning.iter().for_each(|warning| context.observer.note(warning));
                record
            }
            None => Record::create(run.recipe, recipe_yaml, &facts)?,
        };
        write_recipe(run.given)?;
        let (name, id) = page.names();
        let tracked = TrackedRun { name: &name, id: &id, recipe_yaml: &record.recipe_yaml.clone() };
        let problems = record.track(run.recipe, tracked);
        problems.iter().for_each(|problem| context.observer.note(&format!("warning: {problem}")));
        Ok(Self { record, page })
    }

    /// Writes a step's row; the alarm's warning, if any, goes to the log.
    pub(super) fn step(&mut self, row: MetricsRow, context: &mut RunContext<'_>) -> Result<(), TrainError> {
        if let Some(alarm) = self.record.step(row)? {
            context.observer.note(&format!("warning: {alarm}"));
        }
        Ok(())
    }

    /// Writes a checkpoint, for which the other ranks, which have no books, send what they hold.
    pub(super) fn save(
        books: Option<&Self>,
        saved: &Saved<'_>,
        recipe: &Recipe,
    ) -> Result<Option<PathBuf>, TrainError> {
        if let Some(books) = books {
            return books.record.save(saved, recipe).map(Some);
        }
        if let Some(parameter) = saved.session.nonfinite_parameter() {
            return Err(TrainError::WeightsNotFinite { step: saved.state.global_step, parameter });
        }
        saved.session.save_optimizer(Path::new(""), saved.world)?;
        Ok(None)
    }

    /// Writes how long the run took; returns what its rows come to.
    pub(super) fn close(mut self) -> Result<Figures, TrainError> {
        self.page.write_info()?;
        let facts = self.page.facts(&self.record.recipe_yaml);
        let RowHistory { judge, first, last, evaluations, chosen_alarm, .. } = self.record.history;
        let verdict = judge.verdict(&facts).map(|verdict| verdict.to_string());
        Ok(Figures { first, last, evaluations, chosen_alarm, verdict })
    }
}

/// What the rows of a finished run come to.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) first: Option<MetricsRow>,
    pub(super) last: Option<MetricsRow>,
    pub(super) evaluations: Vec<MetricsRow>,
    pub(super) chosen_alarm: Option<String>,
    /// What went wrong with the training, if anything did.
    pub(super) verdict: Option<String>,
}
