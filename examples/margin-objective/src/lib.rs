//! An objective in a crate of its own: DPO whose margin grows with the difference of the rewards.
//!
//! Everything comes from `collimate-objective`: tensors, serde and the registration. A program has the objective as
//! soon as it names this crate: `use margin_objective as _;`.

use collimate_objective::{
    NonNegative, Objective, ObjectiveOutput, Positive, ScoredGroups, burn::tensor::activation::log_sigmoid,
    register_objective, serde,
};

/// Makes the best response beat the worst by a margin in proportion to the difference of their rewards.
///
/// With h = βΔ, and r_w, r_l the rewards of the best and the worst response:
///
/// `L = −log σ( h_w − h_l − γ (r_w − r_l) )`
///
/// With γ = 0 it is DPO. The margin is the one of Llama 2's reward model (arXiv 2307.09288, eq. 2), moved to DPO.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(crate = "collimate_objective::serde")]
pub struct MarginDpo {
    /// β: scale of the implicit reward.
    pub beta: Positive,
    /// γ: margin per unit of reward.
    pub gamma: NonNegative,
}

impl Default for MarginDpo {
    fn default() -> Self {
        Self { beta: Positive::constant(0.1), gamma: NonNegative::constant(1.0) }
    }
}

impl Objective for MarginDpo {
    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let implicit_rewards = groups.log_ratios() * self.beta.get();
        let margin = groups.best(implicit_rewards.clone()) - groups.worst(implicit_rewards.clone());
        let gap = groups.best(groups.rewards()) - groups.worst(groups.rewards());
        ObjectiveOutput { loss: -log_sigmoid(margin - gap * self.gamma.get()), implicit_rewards }
    }
}

register_objective! {
    MarginDpo,
    name: "margin_dpo",
    summary: "DPO with a margin in proportion to the difference of the rewards",
    formula: "−log σ(h_w − h_l − γ(r_w − r_l))",
    paper: "arXiv 2307.09288, eq. 2 (the margin)",
}

#[cfg(test)]
mod tests {
    use collimate_objective::{GroupScores, conformance, evaluate};

    use super::*;

    #[test]
    fn obeys_the_laws_of_objectives() -> Result<(), conformance::Failure> {
        conformance::check("margin_dpo")
    }

    #[test]
    fn at_the_reference_the_loss_is_that_of_the_margin() {
        let group = GroupScores {
            policy_logps: vec![-5.0, -6.0],
            reference_logps: Some(vec![-5.0, -6.0]),
            rewards: vec![0.25, 1.0],
            lengths: vec![3, 4],
        };
        let found = evaluate(&MarginDpo::default(), &[group]).expect("the group is valid");
        assert!((found.losses[0] - (1.0 + 0.75f64.exp()).ln()).abs() < 1e-15);
    }
}
