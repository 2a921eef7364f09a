//! The objective on held-out groups, without changing anything.

use collimate_data::DataFiles;
use collimate_objective::Objective;
use collimate_recipe::Recipe;
use collimate_report::metrics::evaluation_row;
use collimate_report::{LengthSample, MetricsRow};
use collimate_text::TokenizedGroup;

use crate::batches::{ask, group_scores, in_packs, outcomes, score_batch};
use crate::error::TrainError;
use crate::packs::MemoryPlan;
use crate::progress::Observer;
use crate::session::Session;
use crate::stop::StopFlag;

/// Held-out groups and the reference's log-probs of their responses.
pub(crate) struct HeldOut {
    pub(crate) groups: Vec<TokenizedGroup>,
    /// Where they come from, by their index.
    pub(crate) files: DataFiles,
    pub(crate) reference: Option<Vec<Vec<f64>>>,
}

impl HeldOut {
    /// Scores all groups with the policy; a row of `eval_` figures, or none where the run is to stop.
    pub(crate) fn evaluate(
        &self,
        (session, memory): (&mut dyn Session, &MemoryPlan),
        objective: &dyn Objective,
        recipe: &Recipe,
        (step, epoch): (usize, f64),
        (stop, observer): (&StopFlag, &mut dyn Observer),
    ) -> Result<Option<MetricsRow>, TrainError> {
        let groups: Vec<&TokenizedGroup> = self.groups.iter().collect();
        observer.stage("evaluation", Some(groups.len() as u64));
        let mut policy = Vec::with_capacity(groups.len());
        for batch in in_packs(&groups, recipe.per_device_eval_batch_size) {
            policy.extend(score_batch(session, memory, &batch, true, None)?);
            observer.advance(batch.len() as u64);
            if stop.requested().is_some() {
                observer.finish();
                return Ok(None);
            }
        }
        let scores = group_scores(&groups, &policy, self.reference.as_deref());
        let evaluation = ask(objective, &self.files, &groups, &scores)?;
        let outcomes = outcomes(&scores, &evaluation.implicit_rewards);
        let alpha = recipe.objective.alpha();
        // Before the row is recorded: a run that goes on does not evaluate again where there is a row.
        LengthSample::from_evaluation(step, &outcomes).write(&recipe.output_dir)?;
        let row = evaluation_row(step, epoch, evaluation.mean_loss(), &outcomes, alpha);
        observer.step(&row);
        observer.finish();
        Ok(Some(row))
    }
}
