//! Two objectives for these experiments only, registered as a user would.

use collimate_objective::burn::tensor::activation::log_sigmoid;
use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

/// DPO averaged over all pairs of a prompt's responses whose rewards differ: the result of training on all pairs as rows of
/// their own, without computing the prompt once per pair.
///
/// `L = −mean_{r_i > r_j} log σ(β(Δ_i − Δ_j))`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AllPairs {
    /// β: scale of the implicit reward.
    pub beta: Positive,
}

impl Default for AllPairs {
    fn default() -> Self {
        Self { beta: Positive::constant(0.1) }
    }
}

impl Objective for AllPairs {
    fn needs(&self) -> Needs {
        Needs { pairs: true, ..Needs::default() }
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let implicit_rewards = groups.log_ratios() * self.beta.get();
        let (column, row) = (implicit_rewards.clone().unsqueeze_dim::<3>(2), implicit_rewards.clone().unsqueeze_dim(1));
        let rewards = groups.rewards();
        // Pairs with an absent response do not count.
        let present = groups.present();
        let both = present.clone().unsqueeze_dim::<3>(2).float() * present.unsqueeze_dim::<3>(1).float();
        let above = rewards.clone().unsqueeze_dim::<3>(2).greater(rewards.unsqueeze_dim(1)).float() * both;
        let above = above.cast(collimate_objective::FLOAT);
        let total = |pairs: collimate_objective::Tensor<_, 3>| pairs.sum_dim(2).sum_dim(1).squeeze_dim::<2>(2);
        let losses = total(-log_sigmoid(column - row) * above.clone());
        let loss = losses / total(above).clamp_min(1.0);
        ObjectiveOutput { loss: loss.squeeze_dim(1), implicit_rewards }
    }
}

register_objective! {
    AllPairs,
    name: "all_pairs",
    summary: "DPO on all pairs of a prompt's responses",
    formula: "−mean_{r_i>r_j} log σ(h_i − h_j)",
    paper: "the ablation of arXiv 2402.05369",
}

/// Supervised training on all responses of a prompt.
///
/// `L = −(1/K) Σ_k p_k` with p the mean log-probability of a token.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SftAll {}

impl Objective for SftAll {
    fn needs(&self) -> Needs {
        Needs { min_responses: 1, ..Needs::without_reference() }
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let implicit_rewards = groups.token_logps();
        ObjectiveOutput { loss: -groups.mean(implicit_rewards.clone()), implicit_rewards }
    }
}

register_objective! {
    SftAll,
    name: "sft_all",
    summary: "Supervised training on all responses of a prompt",
    formula: "−mean_k p_k",
    paper: "maximum likelihood",
}

#[cfg(test)]
mod tests {
    use collimate_objective::{GroupScores, conformance, evaluate};

    use super::*;

    #[test]
    fn both_obey_the_laws_of_objectives() -> Result<(), conformance::Failure> {
        conformance::check("all_pairs")?;
        conformance::check("sft_all")
    }

    #[test]
    fn all_pairs_is_the_mean_of_dpo_over_the_pairs() {
        let beta = Positive::constant(0.7);
        let (h, rewards) = ([0.3, -0.4, 1.0], [0.5, 0.5, 1.0]);
        let group = |members: &[usize]| GroupScores {
            policy_logps: members.iter().map(|&k| h[k] - 5.0).collect(),
            reference_logps: Some(vec![-5.0; members.len()]),
            rewards: members.iter().map(|&k| rewards[k]).collect(),
            lengths: vec![3; members.len()],
        };
        let all = evaluate(&AllPairs { beta }, &[group(&[0, 1, 2])]).expect("valid");
        let dpo = collimate_objectives::Dpo { beta, ..Default::default() };
        let pairs = evaluate(&dpo, &[group(&[0, 2]), group(&[1, 2])]).expect("valid");
        assert!((all.losses[0] - pairs.mean_loss()).abs() < 1e-15);
        let both = pairs.coefficients[0][1] + pairs.coefficients[1][1];
        assert!((all.coefficients[0][2] - both).abs() < 1e-15);
    }
}
