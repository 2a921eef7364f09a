//! Mixtures of experts: which experts the router picks for each token, with which weights, and how evenly.
//!
//! [`Routing`] has a pack's choices and their gradient, [`RouterLoad`] the balance loss. The crate must not know tensors.

mod load;
#[cfg(test)]
mod tests;

use std::ops::Range;

use collimate_hf::{ExpertGroups, Experts, RouterScores};
pub use load::RouterLoad;

/// Added to the sum that weights are divided by, as transformers does for sigmoids, which may all be zero.
const LEAST_SUM: f64 = 1e-20;

/// The router's choice of experts for every row of a pack.
///
/// A row's experts are those with its best scores (the earlier among equals), of the groups that it picks first if experts
/// are divided into groups. Its weights are the scores themselves or, normalized, divided by their sum over its experts.
#[derive(Debug, Clone)]
pub struct Routing {
    config: Experts,
    /// Scores divided by their sum over all experts, [N, E].
    probabilities: Vec<f32>,
    /// The sum of scores that each row's weights were divided by, [N]; 1 if they are not normalized.
    sums: Vec<f32>,
    /// Scores where they are sigmoids, [N, E]; empty otherwise.
    sigmoids: Vec<f32>,
    /// Weights before their factor, [N, E]; zero for experts that were not picked.
    weights: Vec<f32>,
    /// The rows of each expert, ascending.
    rows: Vec<Vec<u32>>,
}

impl Routing {
    /// Routes rows by the router's logits, [N, E]; `pick_bias`, \[E\], is added to scores for the choice alone.
    pub fn new(logits: &[f32], config: Experts, pick_bias: Option<&[f32]>) -> Self {
        let count = config.count;
        let mut routing = Self {
            config,
            probabilities: Vec::with_capacity(logits.len()),
            sums: Vec::with_capacity(logits.len() / count),
            sigmoids: Vec::new(),
            weights: vec![0.0; logits.len()],
            rows: vec![Vec::new(); count],
        };
        let mut order: Vec<usize> = Vec::with_capacity(count);
        for (row, logits) in logits.chunks_exact(count).enumerate() {
            let scores = scores(logits, config.scores);
            let total: f64 = scores.iter().sum();
            let ranks: Vec<f64> = match (pick_bias, config.scores) {
                (Some(bias), RouterScores::Softmax) => {
                    scores.iter().zip(bias).map(|(score, &bias)| score / total + f64::from(bias)).collect()
                }
                (Some(bias), RouterScores::Sigmoid) => {
                    scores.iter().zip(bias).map(|(score, &bias)| score + f64::from(bias)).collect()
                }
                (None, _) => logits.iter().map(|&logit| f64::from(logit)).collect(),
            };
            order.clear();
            order.extend(0..count);
            if let Some(groups) = config.groups {
                let picked = best_groups(&ranks, groups);
                order.retain(|&expert| picked.contains(&(expert / (count / groups.count))));
            }
            order.sort_by(|&a, &b| ranks[b].total_cmp(&ranks[a]));
            routing.push(row, &scores, &order[..config.per_token.min(order.len())]);
        }
        routing
    }

    /// Adds a row with these scores and picks.
    fn push(&mut self, row: usize, scores: &[f64], picked: &[usize]) {
        let total: f64 = scores.iter().sum();
        let over_picked: f64 = picked.iter().map(|&expert| scores[expert]).sum();
        let (sigmoid, count) = (self.config.scores == RouterScores::Sigmoid, self.config.count);
        let sum = match (self.config.normalizes_weights, sigmoid) {
            (true, true) => over_picked + LEAST_SUM,
            (true, false) => over_picked,
            (false, true) => 1.0,
            (false, false) => total,
        };
        self.probabilities.extend(scores.iter().map(|score| (score / total) as f32));
        self.sums.push(sum as f32);
        if sigmoid {
            self.sigmoids.extend(scores.iter().map(|&score| score as f32));
        }
        for &expert in picked {
            self.weights[row * count + expert] = (scores[expert] / sum) as f32;
            self.rows[expert].push(row as u32);
        }
    }

    /// Scores divided by their sum over all experts, [N, E].
    pub fn probabilities(&self) -> &[f32] {
        &self.probabilities
    }

    /// The rows of each expert, ascending.
    pub fn all_rows(&self) -> &[Vec<u32>] {
        &self.rows
    }

    /// The experts in order, in parts: those of a part have at most `max_rows` rows together, or it is a single one.
    pub fn parts(&self, max_rows: usize) -> Vec<Range<usize>> {
        let mut parts: Vec<Range<usize>> = Vec::new();
        let mut num_rows = 0;
        for (expert, rows) in self.rows.iter().enumerate() {
            num_rows += rows.len();
            match parts.last_mut() {
                Some(part) if num_rows <= max_rows => part.end += 1,
                _ => {
                    parts.push(expert..expert + 1);
                    num_rows = rows.len();
                }
            }
        }
        parts
    }

    /// An expert's rows, ascending.
    pub fn rows(&self, expert: usize) -> &[u32] {
        &self.rows[expert]
    }

    /// The weights of an expert's rows.
    pub fn weights(&self, expert: usize) -> Vec<f32> {
        let (count, scale) = (self.config.count, self.config.weight_scale as f32);
        self.rows[expert].iter().map(|&row| scale * self.weights[row as usize * count + expert]).collect()
    }

    /// The gradient of the logits, [N, E], given that of the weights by expert and row.
    pub fn backward(&self, d_weights: &[Vec<f32>], balance: Option<&BalanceGradient>) -> Vec<f32> {
        let (count, scale) = (self.config.count, self.config.weight_scale as f32);
        let mut d_logits = vec![0.0; self.weights.len()];
        for (expert, (rows, d_weights)) in self.rows.iter().zip(d_weights).enumerate() {
            for (&row, &d_weight) in rows.iter().zip(d_weights) {
                d_logits[row as usize * count + expert] = scale * d_weight;
            }
        }
        match (self.config.scores, self.config.normalizes_weights) {
            (RouterScores::Softmax, true) => softmax_backward(&mut d_logits, &self.weights, count),
            (RouterScores::Softmax, false) => softmax_backward(&mut d_logits, &self.probabilities, count),
            (RouterScores::Sigmoid, _) => self.sigmoid_backward(&mut d_logits),
        }
        if let Some(balance) = balance {
            let mut d: Vec<f32> =
                balance.counts.iter().flat_map(|count| balance.slopes.iter().map(move |slope| count * slope)).collect();
            softmax_backward(&mut d, &self.probabilities, count);
            // A probability is a sigmoid over a sum, where a softmax has an exponential.
            d.iter_mut().zip(&self.sigmoids).for_each(|(d, sigmoid)| *d *= 1.0 - sigmoid);
            d_logits.iter_mut().zip(d).for_each(|(sum, d)| *sum += d);
        }
        d_logits
    }

    /// Replaces the gradient of weights by that of logits, where scores are sigmoids.
    fn sigmoid_backward(&self, d: &mut [f32]) {
        let count = self.config.count;
        let mut means = vec![0.0; self.sums.len()];
        if self.config.normalizes_weights {
            let rows = d.chunks_exact(count).zip(self.weights.chunks_exact(count));
            means = rows.map(|(d, weights)| d.iter().zip(weights).map(|(d, weight)| d * weight).sum()).collect();
        }
        for (expert, rows) in self.rows.iter().enumerate() {
            for row in rows.iter().map(|&row| row as usize) {
                let (at, sigmoid) = (row * count + expert, self.sigmoids[row * count + expert]);
                d[at] = (d[at] - means[row]) / self.sums[row] * sigmoid * (1.0 - sigmoid);
            }
        }
    }
}

/// A row's scores; of a softmax before they are divided by their sum.
fn scores(logits: &[f32], kind: RouterScores) -> Vec<f64> {
    match kind {
        RouterScores::Softmax => {
            let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            logits.iter().map(|&logit| (f64::from(logit) - f64::from(highest)).exp()).collect()
        }
        RouterScores::Sigmoid => logits.iter().map(|&logit| 1.0 / (1.0 + (-f64::from(logit)).exp())).collect(),
    }
}

/// The groups with the largest sums of two ranks, the earlier among equals.
fn best_groups(ranks: &[f64], groups: ExpertGroups) -> Vec<usize> {
    let sum_of_two = |group: &[f64]| {
        let mut sorted = group.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        sorted.iter().take(2).sum::<f64>()
    };
    let sums: Vec<f64> = ranks.chunks(ranks.len() / groups.count).map(sum_of_two).collect();
    let mut order: Vec<usize> = (0..sums.len()).collect();
    order.sort_by(|&a, &b| sums[b].total_cmp(&sums[a]));
    order.truncate(groups.per_token);
    order
}

/// Replaces the gradients of rows of softmaxes by those of their inputs.
fn softmax_backward(d: &mut [f32], probabilities: &[f32], count: usize) {
    for (d, probabilities) in d.chunks_exact_mut(count).zip(probabilities.chunks_exact(count)) {
        let mean: f32 = d.iter().zip(probabilities).map(|(d, p)| d * p).sum();
        d.iter_mut().zip(probabilities).for_each(|(d, p)| *d = p * (*d - mean));
    }
}

/// The gradient of the balance loss with respect to a pack's router probabilities.
#[derive(Debug, Clone)]
pub struct BalanceGradient {
    /// By expert, for a row with multiplicity one.
    pub slopes: Vec<f32>,
    /// Multiplicity of each row, \[N\].
    pub counts: Vec<f32>,
}
