//! Measures what rounding the final weights takes of what was learned.

use collimate_disk::{dtype_is_named, storage_dtype};
use collimate_report::Rounding;
use collimate_text::TokenizedGroup;
use collimate_weights::StorageDtype;

use super::run::Run;
use crate::dataset::DataSet;
use crate::error::TrainError;
use crate::scoring::BatchScorer;
use collimate_collective::StopFlag;
use collimate_session::Session;

/// Most groups to measure with.
const MAX_GROUPS: usize = 32;

/// Measures margins before training, for [`Rounding`].
pub(super) struct RoundingProbe {
    dtype: StorageDtype,
    /// The groups, by their indices in the held-out data, or in the training data if there is none.
    indices: Vec<usize>,
    before: Margin,
}

/// The mean margin of some groups, and where the first of them has none.
struct Margin {
    mean: f64,
    not_finite: Option<String>,
}

impl RoundingProbe {
    /// Measures the base model; `None` if nothing will be rounded. `session` must be in its initial state.
    ///
    /// # Errors
    /// A response does not fit into memory.
    pub(super) fn before(run: &Run<'_>, session: &mut dyn Session) -> Result<Option<Self>, TrainError> {
        let dtype = storage_dtype(run.recipe, session.config());
        if run.recipe.use_peft || dtype == StorageDtype::F32 {
            return Ok(None);
        }
        let indices = sample(run);
        let before = margin(run, session, &indices)?;
        Ok(Some(Self { dtype, indices, before }))
    }

    /// Measures the trained model and the rounded one. Training is over then: the optimizer's moments are dropped.
    ///
    /// # Errors
    /// A response does not fit into memory.
    pub(super) fn after(self, run: &Run<'_>, session: &mut dyn Session) -> Result<Rounding, TrainError> {
        let trained = margin(run, session, &self.indices)?;
        let rounded = match session.round(self.dtype) {
            false => None,
            true => Some(margin(run, session, &self.indices)?),
        };
        session.restore();
        let dtype = self.dtype.name();
        let at = |margin: &Margin, when: &str| margin.not_finite.as_ref().map(|place| format!("{place} {when}"));
        let not_finite = at(&self.before, "before training").or_else(|| at(&trained, "after training"));
        let not_finite = not_finite.or_else(|| at(rounded.as_ref()?, &format!("in {dtype}")));
        Ok(Rounding {
            dtype: dtype.to_owned(),
            is_named: dtype_is_named(run.recipe),
            num_groups: self.indices.len(),
            before: self.before.mean,
            trained: trained.mean,
            rounded: rounded.map(|margin| margin.mean),
            not_finite,
        })
    }
}

/// The groups to measure with, evenly spaced: few in a short run, so that measuring takes little of its time.
fn sample(run: &Run<'_>) -> Vec<usize> {
    let all = run.shown().len();
    let visits = run.counts.total_steps.saturating_mul(run.recipe.groups_per_step());
    let count = (visits / 4).clamp(2, MAX_GROUPS).min(all);
    (0..count).map(|number| number * all / count).collect()
}

/// The mean margin of some groups.
fn margin(run: &Run<'_>, session: &mut dyn Session, indices: &[usize]) -> Result<Margin, TrainError> {
    let data: &DataSet = run.shown();
    let stop = StopFlag::default();
    let mut scorer = BatchScorer { session, budget: &run.budget, stop: &stop };
    let mut margins = Vec::with_capacity(indices.len());
    for micro_batch in indices.chunks(run.recipe.per_device_eval_batch_size.max(1)) {
        let micro_batch = data.select(micro_batch)?;
        let logps = scorer.score(&micro_batch, true, None)?;
        margins.extend(micro_batch.iter().zip(&logps).map(|(group, logps)| group_margin(group, logps)));
    }
    let first = indices.iter().zip(&margins).find(|(_, margin)| !margin.is_finite());
    let not_finite = first.map(|(index, _)| data.location(*index)).transpose()?;
    Ok(Margin { mean: margins.iter().sum::<f64>() / margins.len().max(1) as f64, not_finite })
}

fn group_margin(group: &TokenizedGroup, logps: &[f64]) -> f64 {
    let rewards = || group.responses.iter().map(|response| response.reward).enumerate();
    let chosen =
        rewards().fold((0, f64::NEG_INFINITY), |best, (k, reward)| if reward > best.1 { (k, reward) } else { best });
    let others: Vec<f64> = logps.iter().enumerate().filter(|(k, _)| *k != chosen.0).map(|(_, logp)| *logp).collect();
    let mean = if others.is_empty() { 0.0 } else { others.iter().sum::<f64>() / others.len() as f64 };
    logps.get(chosen.0).copied().unwrap_or_default() - mean
}

#[cfg(test)]
mod tests {
    use collimate_text::TokenizedResponse;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&[1.0, 2.0, 0.0], &[-3.0, -1.0, -5.0], -1.0 + 4.0)]
    #[case(&[1.0, 0.0], &[-3.0, -1.0], -2.0)]
    #[case(&[1.0], &[-3.0], -3.0)]
    fn the_margin_is_the_chosen_less_the_mean_of_the_others(
        #[case] rewards: &[f64],
        #[case] logps: &[f64],
        #[case] expected: f64,
    ) {
        let response = |reward: &f64| TokenizedResponse { ids: vec![1], reward: *reward, num_cut: 0 };
        let responses = rewards.iter().map(response).collect();
        let group = TokenizedGroup { line: 1, prompt_ids: vec![1], responses, ..TokenizedGroup::default() };
        assert_eq!(group_margin(&group, logps), expected);
    }
}
