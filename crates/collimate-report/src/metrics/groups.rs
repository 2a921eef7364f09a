//! Means over the prompts of a step or an evaluation.

use collimate_rewards::{entropy, reward_weights};

use super::row::MetricsRow;
use crate::stats::correlation;

/// Log-ratio of policy and reference on the best-scored responses, in nats: the figure that the alarm watches.
pub const CHOSEN_LOG_RATIO: &str = "log_ratios/chosen";

/// The results for the K responses of one prompt, in the data's order.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupOutcome {
    /// Implicit rewards by the objective, \[K\].
    pub implicit_rewards: Vec<f64>,
    /// Rewards of the data, \[K\].
    pub rewards: Vec<f64>,
    /// The policy's log-probs of whole responses in nats, \[K\].
    pub policy_logps: Vec<f64>,
    /// The reference's log-probs, if the objective needs a reference, \[K\].
    pub reference_logps: Option<Vec<f64>>,
    /// Tokens of each response, \[K\].
    pub num_tokens: Vec<usize>,
}

/// Means over prompts of implicit rewards, log-probs and lengths.
///
/// - `chosen` is the best-scored response (the first of equals), `rejected` the mean of all others, and `rank_k` the response
///   at position k by falling reward (equals in the file's order), over the prompts that have one.
/// - `rewards/accuracies` is the share of prompts whose chosen implicit reward exceeds the mean rejected one, among prompts
///   whose rewards are not all equal; `null` if there are none.
/// - `log_ratios/chosen`, with a reference only, is the mean of log π − log π_ref of the chosen responses in nats, without β.
/// - `lengths/chosen` and `lengths/rejected` are in tokens. `lengths/correlation` is the mean over prompts of the correlation
///   of a response's tokens with its implicit reward, `lengths/reward_correlation` that with the data's reward: if the
///   first outgrows the second, the policy learns length.
/// - `weights/entropy`, with α only, is the mean entropy of softmax(reward/α) in nats: near 0 the weights are one-hot and the
///   sizes of rewards are ignored.
pub fn group_metrics(groups: &[GroupOutcome], alpha: Option<f64>) -> MetricsRow {
    let orders: Vec<Vec<usize>> = groups.iter().map(|group| descending(&group.rewards)).collect();
    let rewards = Split::new(groups, &orders, |group| &group.implicit_rewards);
    let logps = Split::new(groups, &orders, |group| &group.policy_logps);
    let decided = groups.iter().zip(rewards.chosen.iter().zip(&rewards.rejected));
    let decided = decided.filter(|(group, _)| group.rewards.iter().any(|reward| *reward != group.rewards[0]));
    let accuracies = decided.map(|(_, (chosen, rejected))| if chosen > rejected { 1.0 } else { 0.0 });

    let mut row = MetricsRow::default();
    row.set("rewards/chosen", mean(rewards.chosen.iter().copied()));
    row.set("rewards/rejected", mean(rewards.rejected.iter().copied()));
    row.set("rewards/accuracies", mean(accuracies));
    row.set("rewards/margins", mean(rewards.chosen.iter().zip(&rewards.rejected).map(|(c, r)| c - r)));
    rewards.set_ranks(&mut row, "rewards");
    row.set("logps/chosen", mean(logps.chosen.iter().copied()));
    row.set("logps/rejected", mean(logps.rejected.iter().copied()));
    logps.set_ranks(&mut row, "logps");
    if groups.iter().any(|group| group.reference_logps.is_some()) {
        row.set(
            CHOSEN_LOG_RATIO,
            mean(groups.iter().zip(&orders).filter_map(|(group, order)| chosen_log_ratio(group, order))),
        );
    }
    row.extend(length_metrics(groups, &orders));
    if let Some(alpha) = alpha {
        row.set("weights/entropy", mean(groups.iter().map(|group| entropy(&reward_weights(&group.rewards, alpha)))));
    }
    row
}

/// Lengths of chosen and rejected responses, and their correlation with rewards.
fn length_metrics(groups: &[GroupOutcome], orders: &[Vec<usize>]) -> MetricsRow {
    let lengths: Vec<Vec<f64>> =
        groups.iter().map(|group| group.num_tokens.iter().map(|&n| n as f64).collect()).collect();
    let mean_length = |group: usize, responses: &[usize]| mean(responses.iter().map(|&k| lengths[group][k]));
    let correlation_with = |values: fn(&GroupOutcome) -> &[f64]| {
        mean(groups.iter().zip(&lengths).filter_map(move |(group, lengths)| correlation(lengths, values(group))))
    };
    let mut row = MetricsRow::default();
    let chosen = orders.iter().enumerate().filter_map(|(group, order)| Some(mean_length(group, order.get(..1)?)));
    let rejected = orders.iter().enumerate().filter_map(|(group, order)| Some(mean_length(group, order.get(1..)?)));
    row.set("lengths/chosen", mean(chosen));
    row.set("lengths/rejected", mean(rejected));
    row.set("lengths/correlation", correlation_with(|group| &group.implicit_rewards));
    row.set("lengths/reward_correlation", correlation_with(|group| &group.rewards));
    row
}

/// One quantity of every prompt, split by the rank of the data's rewards.
struct Split {
    chosen: Vec<f64>,
    rejected: Vec<f64>,
    ranked: Vec<Vec<f64>>,
}

impl Split {
    fn new(groups: &[GroupOutcome], orders: &[Vec<usize>], values: impl Fn(&GroupOutcome) -> &[f64]) -> Self {
        let ranked = groups.iter().zip(orders);
        let ranked = ranked.map(|(group, order)| order.iter().map(|&k| values(group)[k]).collect());
        let ranked: Vec<Vec<f64>> = ranked.collect();
        Self {
            chosen: ranked.iter().filter_map(|values| values.first().copied()).collect(),
            rejected: ranked.iter().map(|values| mean(values.iter().skip(1).copied())).collect(),
            ranked,
        }
    }

    fn set_ranks(&self, row: &mut MetricsRow, name: &str) {
        let num_ranks = self.ranked.iter().map(Vec::len).max().unwrap_or(0);
        for rank in 0..num_ranks {
            let values = self.ranked.iter().filter_map(|values| values.get(rank).copied());
            row.set(&format!("{name}/rank_{rank}"), mean(values));
        }
    }
}

/// log π − log π_ref of the best-scored response, in nats.
fn chosen_log_ratio(group: &GroupOutcome, order: &[usize]) -> Option<f64> {
    let best = *order.first()?;
    Some(group.policy_logps[best] - group.reference_logps.as_ref()?[best])
}

/// Indices by decreasing value, ties in order.
fn descending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { f64::NAN } else { sum / count as f64 }
}
