//! CCA: condition contrastive alignment, a response under its own condition against another one.

use collimate_objective::{
    Needs, NonNegative, Objective, ObjectiveOutput, Positive, ScoredGroups, StepRows, register_objective,
};
use serde::{Deserialize, Serialize};

use crate::math::log_sigmoid;

/// Raises the likelihood of each response under its own condition and lowers it under another row's, so that a generator
/// follows its conditions without guidance. Needs no preferences: any responses that were collected for conditions will do.
///
/// A row's responses are scored twice, under their own condition (reward 1) and under a negative one (reward 0), that of the
/// next row of the micro-batch; the last row's is the first's. With h = βΔ:
///
/// `L = −log σ(h⁺) − λ log σ(−h⁻)`
///
/// The published code ([`Form::Code`], the default) differs from this formula of the paper ([`Form::Formula`]): where the
/// negative condition is the row's own, the second term is `−log σ(+h)`, a further positive one; and the sum is divided by
/// `max(λ, 1)`. A share of rows, [`Cca::uncond_ratio`], is scored under the null condition alone, which counts as positive
/// twice. In the formula's form these rows have one positive term and no negative one.
///
/// Source: Chen et al. 2024, arXiv 2410.09347, and its program (github.com/thu-ml/CCA).
///
/// The code has two special cases that are not here: with an `uncond_ratio` of 0 its VAR recipe does not divide by
/// `max(λ, 1)`, and its LlamaGen recipe uses another loss without β and σ.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cca {
    /// β: scale of the implicit reward.
    pub beta: Positive,
    /// λ: weight of the negative term. The published runs use 300 to 1000 with a β of 0.02.
    pub lambda: NonNegative,
    /// Share of rows that are scored under the null condition, as in training for guidance. Needs a model that has one.
    pub uncond_ratio: Share,
    /// The published code or the paper's formula.
    pub form: Form,
    /// Which rows of each step are scored under the null condition, in place of a draw: to repeat a run whose draws are
    /// known. Steps beyond the list have none.
    pub masked: Option<Vec<Vec<bool>>>,
}

/// Which of the two published losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// That of the published program.
    Code,
    /// That of the paper.
    Formula,
}

/// A share of rows, in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Share(f64);

impl TryFrom<f64> for Share {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        match (0.0..=1.0).contains(&value) {
            true => Ok(Self(value)),
            false => Err(format!("expected a number in [0, 1], found {value}")),
        }
    }
}

impl From<Share> for f64 {
    fn from(share: Share) -> f64 {
        share.0
    }
}

impl Default for Cca {
    fn default() -> Self {
        Self {
            beta: Positive::constant(0.02),
            lambda: NonNegative::constant(1000.0),
            uncond_ratio: Share(0.1),
            form: Form::Code,
            masked: None,
        }
    }
}

impl Objective for Cca {
    fn needs(&self) -> Needs {
        Needs { mismatched_pairs: true, ..Needs::default().without_pairs() }
    }

    fn unconditional_rows(&self, rows: StepRows) -> Vec<bool> {
        match &self.masked {
            None => (0..rows.count).map(|row| rows.uniform(row) < self.uncond_ratio.0).collect(),
            Some(masked) => {
                let mut masked = masked.get(rows.step).cloned().unwrap_or_default();
                masked.resize(rows.count, false);
                masked
            }
        }
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let (implicit_rewards, lambda) = (groups.log_ratios() * self.beta.get(), self.lambda.get());
        let rewards = groups.rewards();
        // Ones and zeros rather than a mask on the terms, whose backward pass burn computes in float32.
        let is_positive = rewards.zeros_like().mask_fill(rewards.clone().greater_elem(0.0), 1.0);
        let is_negative = rewards.ones_like() - is_positive.clone();
        let positive = is_positive * -log_sigmoid(implicit_rewards.clone());
        let negative = is_negative * -log_sigmoid(-implicit_rewards.clone());
        let sum = groups.sum(positive + negative * lambda);
        let factor = match self.form {
            Form::Code => sum.ones_like() / lambda.max(1.0),
            // A response that has no negative pair has two equal terms, of which one counts.
            Form::Formula => sum.ones_like().mask_fill(groups.worst(rewards).greater_elem(0.0), 0.5),
        };
        // One response to a condition is a pair; the mean over several keeps the scale.
        let pairs = groups.num_present() / 2.0;
        ObjectiveOutput { loss: sum * factor / pairs, implicit_rewards }
    }
}

register_objective! {
    Cca,
    name: "cca",
    summary: "A response under its own condition against the next row's (conditions, not rewards)",
    formula: "(−log σ(h⁺) − λ log σ(−h⁻)) / max(λ, 1); h⁺ twice where both conditions are the same",
    paper: "arXiv 2410.09347 (CCA)",
}
