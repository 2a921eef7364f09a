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

/// Means over prompts of implicit rewards, log-probs and lengths, of prompts that are added one by one.
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
#[derive(Debug, Clone)]
pub struct GroupFigures {
    alpha: Option<f64>,
    rewards: Split,
    logps: Split,
    accuracies: Mean,
    margins: Mean,
    chosen_log_ratio: Option<Mean>,
    lengths: Split,
    length_correlation: Mean,
    length_reward_correlation: Mean,
    entropy: Mean,
}

impl GroupFigures {
    /// Figures of no prompt yet; `alpha` is the objective's reward temperature, if it has one.
    pub fn new(alpha: Option<f64>) -> Self {
        Self {
            alpha,
            rewards: Split::default(),
            logps: Split::default(),
            accuracies: Mean::default(),
            margins: Mean::default(),
            chosen_log_ratio: None,
            lengths: Split::default(),
            length_correlation: Mean::default(),
            length_reward_correlation: Mean::default(),
            entropy: Mean::default(),
        }
    }

    /// Adds a prompt.
    pub fn add(&mut self, group: &GroupOutcome) {
        let order = descending(&group.rewards);
        let lengths: Vec<f64> = group.num_tokens.iter().map(|&count| count as f64).collect();
        if let Some((chosen, rejected)) = self.rewards.add(&order, &group.implicit_rewards) {
            self.margins.add(chosen - rejected);
            if group.rewards.iter().any(|reward| *reward != group.rewards[0]) {
                self.accuracies.add(if chosen > rejected { 1.0 } else { 0.0 });
            }
        }
        self.logps.add(&order, &group.policy_logps);
        if let (Some(reference), Some(&best)) = (&group.reference_logps, order.first()) {
            self.chosen_log_ratio.get_or_insert_default().add(group.policy_logps[best] - reference[best]);
        }
        self.lengths.add(&order, &lengths);
        correlation(&lengths, &group.implicit_rewards).into_iter().for_each(|value| self.length_correlation.add(value));
        correlation(&lengths, &group.rewards).into_iter().for_each(|value| self.length_reward_correlation.add(value));
        if let Some(alpha) = self.alpha {
            self.entropy.add(entropy(&reward_weights(&group.rewards, alpha)));
        }
    }

    /// The figures so far.
    pub fn row(&self) -> MetricsRow {
        let mut row = MetricsRow::default();
        row.set("rewards/chosen", self.rewards.chosen.value());
        row.set("rewards/rejected", self.rewards.rejected.value());
        row.set("rewards/accuracies", self.accuracies.value());
        row.set("rewards/margins", self.margins.value());
        self.rewards.set_ranks(&mut row, "rewards");
        row.set("logps/chosen", self.logps.chosen.value());
        row.set("logps/rejected", self.logps.rejected.value());
        self.logps.set_ranks(&mut row, "logps");
        if let Some(log_ratio) = self.chosen_log_ratio {
            row.set(CHOSEN_LOG_RATIO, log_ratio.value());
        }
        row.set("lengths/chosen", self.lengths.chosen.value());
        row.set("lengths/rejected", self.lengths.rejected.value());
        row.set("lengths/correlation", self.length_correlation.value());
        row.set("lengths/reward_correlation", self.length_reward_correlation.value());
        if self.alpha.is_some() {
            row.set("weights/entropy", self.entropy.value());
        }
        row
    }
}

/// The figures of these prompts; see [`GroupFigures`].
pub fn group_metrics(groups: &[GroupOutcome], alpha: Option<f64>) -> MetricsRow {
    let mut figures = GroupFigures::new(alpha);
    groups.iter().for_each(|group| figures.add(group));
    figures.row()
}

/// Means of one quantity by the rank of the data's rewards.
#[derive(Debug, Clone, Default)]
struct Split {
    chosen: Mean,
    rejected: Mean,
    ranks: Vec<Mean>,
}

impl Split {
    /// Adds a prompt's values, whose order by falling reward is `order`; returns those of chosen and rejected, unless there
    /// are none.
    fn add(&mut self, order: &[usize], values: &[f64]) -> Option<(f64, f64)> {
        let (&best, others) = order.split_first()?;
        let (chosen, rejected) = (values[best], mean(others.iter().map(|&k| values[k])));
        self.chosen.add(chosen);
        self.rejected.add(rejected);
        self.ranks.resize(self.ranks.len().max(order.len()), Mean::default());
        self.ranks.iter_mut().zip(order).for_each(|(rank, &k)| rank.add(values[k]));
        Some((chosen, rejected))
    }

    fn set_ranks(&self, row: &mut MetricsRow, name: &str) {
        for (rank, mean) in self.ranks.iter().enumerate() {
            row.set(&format!("{name}/rank_{rank}"), mean.value());
        }
    }
}

/// A mean of values that are added one by one; not a number without any.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn value(self) -> f64 {
        if self.count == 0 { f64::NAN } else { self.sum / self.count as f64 }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let mut mean = Mean::default();
    values.for_each(|value| mean.add(value));
    mean.value()
}

/// Indices by decreasing value, ties in order.
fn descending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order
}
