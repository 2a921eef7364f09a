//! What rounding the final weights takes of what was learned.
//!
//! Training updates float32 weights, and every figure of a run is measured with them. A change smaller than half the distance
//! of two numbers of the storage dtype is lost when they are rounded to it, so a model stored in bfloat16 may be nearer to
//! its base than the one that was measured.

use collimate_hf::StorageDtype;
use collimate_text::TokenizedGroup;

use super::run::Run;
use super::storage::{dtype_is_named, storage_dtype};
use crate::dataset::DataSet;
use crate::error::TrainError;
use crate::scoring::BatchScorer;
use crate::session::Session;

/// Most groups to measure with.
const MAX_GROUPS: usize = 32;
/// Float32 is kept if rounding takes more than this share of the learned margin.
const MAX_SHARE: f64 = 0.05;

/// What rounding takes of what was learned: the mean margin of some groups' log-probs, in nats. The margin of a group is the
/// chosen response's log-prob less the mean of the others'; of a single response, its log-prob.
#[derive(Debug, Clone, PartialEq)]
pub struct Rounding {
    /// The dtype of the final weights, if rounding takes little.
    pub dtype: StorageDtype,
    /// Whether the recipe names that dtype, so that it is kept in any case.
    pub is_named: bool,
    /// Number of groups measured with.
    pub num_groups: usize,
    /// The margin before training.
    pub before: f64,
    /// The margin of the weights that were trained and measured, in float32.
    pub trained: f64,
    /// The margin of the rounded weights; `None` if a weight is too large for the dtype.
    pub rounded: Option<f64>,
}

impl Rounding {
    /// The share of the learned margin that the rounded weights have; 1 if rounding changes nothing.
    pub fn kept(&self) -> f64 {
        match self.rounded {
            Some(rounded) if rounded == self.trained => 1.0,
            Some(rounded) => (rounded - self.before) / (self.trained - self.before),
            None => 0.0,
        }
    }

    /// Whether rounding takes too much.
    fn matters(&self) -> bool {
        let learned = (self.trained - self.before).abs();
        self.rounded.is_none_or(|rounded| (rounded - self.trained).abs() > MAX_SHARE * learned)
    }

    /// The dtype in which the final weights are saved.
    pub fn saved_in(&self) -> StorageDtype {
        match self.rounded {
            None => StorageDtype::F32,
            Some(_) if self.matters() && !self.is_named => StorageDtype::F32,
            Some(_) => self.dtype,
        }
    }

    /// A line for the summary.
    pub fn line(&self) -> String {
        let (dtype, saved) = (self.dtype.name(), self.saved_in().name());
        let Some(rounded) = self.rounded else {
            return format!("saved in {saved}: a weight is too large for {dtype}");
        };
        let figures = format!(
            "margin {:.4} before, {:.4} trained, {rounded:.4} in {dtype}: {:.1} % of the change ({} prompts)",
            self.before,
            self.trained,
            100.0 * self.kept(),
            self.num_groups,
        );
        let then = match (self.matters(), self.is_named) {
            (false, _) => "",
            (true, false) => "; torch_dtype: ",
            (true, true) => "; leave torch_dtype out, and what was measured is saved in float32",
        };
        let forced =
            if self.matters() && !self.is_named { format!("{then}{dtype} saves it rounded") } else { then.to_owned() };
        let warning = if self.matters() && self.is_named { "warning: " } else { "" };
        format!("{warning}saved in {saved}: {figures}{forced}")
    }
}

/// Measures margins before training, for [`Rounding`].
pub(super) struct RoundingProbe {
    dtype: StorageDtype,
    /// The groups, by their indices in the held-out data, or in the training data if there is none.
    indices: Vec<usize>,
    before: f64,
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
        Ok(Rounding {
            dtype: self.dtype,
            is_named: dtype_is_named(run.recipe),
            num_groups: self.indices.len(),
            before: self.before,
            trained,
            rounded,
        })
    }
}

/// The groups to measure with, evenly spaced: few in a short run, so that measuring takes little of its time.
fn sample(run: &Run<'_>) -> Vec<usize> {
    let all = run.shown().groups.len();
    let visits = run.counts.total_steps.saturating_mul(run.recipe.groups_per_step());
    let count = (visits / 4).clamp(2, MAX_GROUPS).min(all);
    (0..count).map(|number| number * all / count).collect()
}

/// The mean margin of some groups.
fn margin(run: &Run<'_>, session: &mut dyn Session, indices: &[usize]) -> Result<f64, TrainError> {
    let data: &DataSet = run.shown();
    let groups = data.select(indices);
    let mut scorer = BatchScorer { session, budget: &run.budget };
    let mut margins = Vec::with_capacity(groups.len());
    for micro_batch in groups.chunks(run.recipe.per_device_eval_batch_size.max(1)) {
        let logps = scorer.score(micro_batch, true, None)?;
        margins.extend(micro_batch.iter().zip(&logps).map(|(group, logps)| group_margin(group, logps)));
    }
    Ok(margins.iter().sum::<f64>() / margins.len().max(1) as f64)
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

    fn rounding(rounded: Option<f64>, is_named: bool) -> Rounding {
        let dtype = StorageDtype::BF16;
        Rounding { dtype, is_named, num_groups: 6, before: 0.25, trained: 0.75, rounded }
    }

    #[rstest]
    #[case(Some(0.75), false, StorageDtype::BF16, 1.0)]
    #[case(Some(0.74), false, StorageDtype::BF16, 0.98)]
    #[case(Some(0.5), false, StorageDtype::F32, 0.5)]
    #[case(Some(0.5), true, StorageDtype::BF16, 0.5)]
    #[case(None, false, StorageDtype::F32, 0.0)]
    #[case(None, true, StorageDtype::F32, 0.0)]
    fn float32_is_kept_where_rounding_takes_much(
        #[case] rounded: Option<f64>,
        #[case] is_named: bool,
        #[case] saved_in: StorageDtype,
        #[case] kept: f64,
    ) {
        let rounding = rounding(rounded, is_named);
        assert_eq!(rounding.saved_in(), saved_in);
        assert!((rounding.kept() - kept).abs() < 1e-12);
    }

    #[test]
    fn the_line_has_the_figures() {
        assert_eq!(
            rounding(Some(0.5), false).line(),
            "saved in float32: margin 0.2500 before, 0.7500 trained, 0.5000 in bfloat16: 50.0 % of the change (6 prompts); \
             torch_dtype: bfloat16 saves it rounded"
        );
        assert!(rounding(Some(0.5), true).line().starts_with("warning: saved in bfloat16: margin 0.2500"));
        assert_eq!(rounding(None, true).line(), "saved in float32: a weight is too large for bfloat16");
    }

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
        let group = TokenizedGroup { index: 0, line: 1, prompt_ids: vec![1], num_prompt_cut: 0, responses };
        assert_eq!(group_margin(&group, logps), expected);
    }
}
