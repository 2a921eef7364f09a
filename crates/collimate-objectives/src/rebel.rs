//! REBEL: regression of reward differences.

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, Tensor, register_objective};
use serde::{Deserialize, Serialize};

/// Fits the difference of two implicit rewards to the difference of the data's rewards, over all pairs of responses.
///
/// With h = βΔ:
///
/// `L = 2/(K(K−1)) Σ_{i<j} ((h_i − h_j) − (r_i − r_j))²`
///
/// Sizes of rewards count, and adding a number to all rewards of a prompt changes nothing. The minimum over a prompt is
/// h = r + a constant, where the policy is the reference weighted by e^{r/β}.
///
/// Source: Gao et al. 2024, arXiv 2404.16767, eq. 4, which has 1/η for β and two responses.
///
/// TRL's keys: none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rebel {
    /// β: scale of the implicit reward, the paper's 1/η.
    pub beta: Positive,
}

impl Default for Rebel {
    fn default() -> Self {
        Self { beta: Positive::constant(1.0) }
    }
}

impl Objective for Rebel {
    fn needs(&self) -> Needs {
        Needs::default().without_pairs()
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let implicit_rewards = groups.log_ratios() * self.beta.get();
        let errors = implicit_rewards.clone() - groups.rewards();
        // Differences of all pairs come to the deviations from the mean: no tensor holds the pairs.
        let mean: Tensor<_, 2> = groups.mean(errors.clone()).unsqueeze_dim(1);
        let loss = groups.sum((errors - mean).square()) * 2.0 / (groups.num_present() - 1.0);
        ObjectiveOutput { loss, implicit_rewards }
    }
}

register_objective! {
    Rebel,
    name: "rebel",
    summary: "Fit differences of implicit rewards to those of the data's rewards (K responses)",
    formula: "2/(K(K−1)) Σ_{i<j} ((h_i − h_j) − (r_i − r_j))²",
    paper: "arXiv 2404.16767 (REBEL)",
}
