//! The router's choice of experts, and how evenly it spreads tokens over them.

use collimate_text::GroupBatch;

/// The router's choice of experts for every row of a pack.
///
/// A row's experts are those with its largest logits (the earlier among equals), and its weights are the softmax over these
/// logits only, which equals the softmax over all, renormalized.
#[derive(Debug, Clone)]
pub(crate) struct Routing {
    num_experts: usize,
    /// Softmax over all experts, [N, E].
    probabilities: Vec<f32>,
    /// Weights, [N, E]; zero for experts that were not picked.
    weights: Vec<f32>,
    /// The rows of each expert, ascending.
    rows: Vec<Vec<u32>>,
}

impl Routing {
    /// Routes rows by the router's logits, [N, E].
    pub(crate) fn new(logits: &[f32], num_experts: usize, per_token: usize) -> Self {
        let mut probabilities = Vec::with_capacity(logits.len());
        let mut weights = vec![0.0; logits.len()];
        let mut rows = vec![Vec::new(); num_experts];
        let mut order: Vec<usize> = Vec::with_capacity(num_experts);
        for (row, logits) in logits.chunks_exact(num_experts).enumerate() {
            order.clear();
            order.extend(0..num_experts);
            order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
            let highest = f64::from(logits[order[0]]);
            let share = |expert: usize| (f64::from(logits[expert]) - highest).exp();
            let total: f64 = (0..num_experts).map(share).sum();
            probabilities.extend((0..num_experts).map(|expert| (share(expert) / total) as f32));
            let picked = &order[..per_token];
            let total: f64 = picked.iter().map(|&expert| share(expert)).sum();
            for &expert in picked {
                weights[row * num_experts + expert] = (share(expert) / total) as f32;
                rows[expert].push(row as u32);
            }
        }
        Self { num_experts, probabilities, weights, rows }
    }

    /// An expert's rows, ascending.
    pub(crate) fn rows(&self, expert: usize) -> &[u32] {
        &self.rows[expert]
    }

    /// The weights of an expert's rows.
    pub(crate) fn weights(&self, expert: usize) -> Vec<f32> {
        self.rows[expert].iter().map(|&row| self.weights[row as usize * self.num_experts + expert]).collect()
    }

    /// The gradient of the logits, [N, E], given that of the weights by expert and row.
    pub(crate) fn backward(&self, d_weights: &[Vec<f32>], balance: Option<&BalanceGradient>) -> Vec<f32> {
        let mut d_logits = vec![0.0; self.weights.len()];
        for (expert, (rows, d_weights)) in self.rows.iter().zip(d_weights).enumerate() {
            for (&row, &d_weight) in rows.iter().zip(d_weights) {
                d_logits[row as usize * self.num_experts + expert] = d_weight;
            }
        }
        let weights = self.weights.chunks_exact(self.num_experts);
        for (d_logits, weights) in d_logits.chunks_exact_mut(self.num_experts).zip(weights) {
            softmax_backward(d_logits, weights);
        }
        if let Some(balance) = balance {
            let rows = self.probabilities.chunks_exact(self.num_experts).zip(&balance.counts);
            for (d_logits, (probabilities, &count)) in d_logits.chunks_exact_mut(self.num_experts).zip(rows) {
                let mut d: Vec<f32> = balance.slopes.iter().map(|slope| count * slope).collect();
                softmax_backward(&mut d, probabilities);
                d_logits.iter_mut().zip(d).for_each(|(sum, d)| *sum += d);
            }
        }
        d_logits
    }
}

/// Replaces the gradient of a softmax's output by that of its input.
fn softmax_backward(d: &mut [f32], probabilities: &[f32]) {
    let mean: f32 = d.iter().zip(probabilities).map(|(d, p)| d * p).sum();
    d.iter_mut().zip(probabilities).for_each(|(d, p)| *d = p * (*d - mean));
}

/// How the tokens of one or more packs are spread over experts, over all layers.
///
/// A prompt counts once per response, as if it were repeated for each.
#[derive(Debug, Clone, PartialEq)]
pub struct RouterLoad {
    /// Number of tokens that picked each expert.
    picked: Vec<f64>,
    /// Sum of each expert's probabilities.
    probabilities: Vec<f64>,
    /// Number of tokens times number of layers.
    rows: f64,
}

impl RouterLoad {
    fn new(num_experts: usize) -> Self {
        Self { picked: vec![0.0; num_experts], probabilities: vec![0.0; num_experts], rows: 0.0 }
    }

    /// Adds one layer of a pack; `counts` is each row's multiplicity.
    fn add_layer(&mut self, routing: &Routing, counts: &[f32]) {
        for (picked, rows) in self.picked.iter_mut().zip(&routing.rows) {
            *picked += rows.iter().map(|&row| f64::from(counts[row as usize])).sum::<f64>();
        }
        for (row, &count) in routing.probabilities.chunks_exact(routing.num_experts).zip(counts) {
            for (sum, &p) in self.probabilities.iter_mut().zip(row) {
                *sum += f64::from(count) * f64::from(p);
            }
        }
        self.rows += counts.iter().map(|&count| f64::from(count)).sum::<f64>();
    }

    /// Adds the load of other packs.
    pub fn add(&mut self, other: &Self) {
        let sums = [(&mut self.picked, &other.picked), (&mut self.probabilities, &other.probabilities)];
        for (sum, terms) in sums {
            sum.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
        }
        self.rows += other.rows;
    }

    /// The balance loss `E Σ_e f_e P_e`, where f_e is the share of tokens that picked expert e and P_e its mean probability
    /// (Switch Transformer, arXiv 2101.03961, equations 4 to 6). It equals the number of experts per token if all experts
    /// are used equally.
    pub fn loss(&self) -> f64 {
        let terms = self.picked.iter().zip(&self.probabilities);
        let sum: f64 = terms.map(|(picked, p)| picked / self.rows * (p / self.rows)).sum();
        self.picked.len() as f64 * sum
    }

    /// The gradient of `weight` times the loss with respect to a pack's probabilities, which enter only the means P_e;
    /// `counts` is the multiplicity of each of the pack's rows.
    fn gradient(&self, weight: f64, counts: Vec<f32>) -> BalanceGradient {
        let factor = weight * self.picked.len() as f64 / self.rows;
        let slopes = self.picked.iter().map(|picked| (factor * picked / self.rows) as f32).collect();
        BalanceGradient { slopes, counts }
    }
}

/// The load of one pack, with the multiplicity of each of its rows.
#[derive(Debug, Clone)]
pub(crate) struct PackLoad {
    load: RouterLoad,
    /// [N].
    counts: Vec<f32>,
}

impl PackLoad {
    /// The empty load of a pack.
    pub(crate) fn new(batch: &GroupBatch, num_experts: usize) -> Self {
        let mut counts = vec![0.0; batch.num_tokens()];
        for response in batch.responses() {
            for rows in [&response.prompt, &response.tokens] {
                counts[rows.clone()].iter_mut().for_each(|count| *count += 1.0);
            }
        }
        Self { load: RouterLoad::new(num_experts), counts }
    }

    pub(crate) fn add_layer(&mut self, routing: &Routing) {
        self.load.add_layer(routing, &self.counts);
    }

    pub(crate) fn load(&self) -> &RouterLoad {
        &self.load
    }

    pub(crate) fn into_load(self) -> RouterLoad {
        self.load
    }

    /// The gradient of `weight` times a micro-batch's balance loss with respect to this pack's probabilities.
    pub(crate) fn balance_gradient(self, batch: &RouterLoad, weight: f64) -> BalanceGradient {
        batch.gradient(weight, self.counts)
    }
}

/// The gradient of the balance loss with respect to a pack's router probabilities.
#[derive(Debug, Clone)]
pub(crate) struct BalanceGradient {
    /// By expert, for a row with multiplicity one.
    slopes: Vec<f32>,
    /// Multiplicity of each row, [N].
    counts: Vec<f32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 9] = [0.0, 2.0, 1.0, 3.0, 3.0, -1.0, -5.0, 0.5, 0.25];

    fn exp(x: f64) -> f64 {
        x.exp()
    }

    #[test]
    fn the_largest_logits_are_picked_and_their_weights_sum_to_one() {
        let routing = Routing::new(&LOGITS, 3, 2);
        assert_eq!([routing.rows(0), routing.rows(1), routing.rows(2)], [&[1][..], &[0, 1, 2], &[0, 2]]);
        assert_eq!(routing.weights(0), [0.5]);
        let first = exp(2.0) / (exp(2.0) + exp(1.0));
        assert!((f64::from(routing.weights(1)[0]) - first).abs() < 1e-7);
        assert!((f64::from(routing.weights(2)[0]) - (1.0 - first)).abs() < 1e-7);
        let one = Routing::new(&[1.0, 1.0, 1.0], 3, 1);
        assert_eq!((one.rows(0), one.weights(0)), (&[0][..], vec![1.0]), "the first of equal logits");
    }

    /// `Σ c · weight + w · balance` of logits in float64.
    fn objective(logits: &[f64], d_weights: &[Vec<f32>], weight: f64, counts: &[f32]) -> f64 {
        let single: Vec<f32> = logits.iter().map(|&x| x as f32).collect();
        let routing = Routing::new(&single, 3, 2);
        let (mut sum, mut picked, mut p) = (0.0, [0.0; 3], [0.0; 3]);
        for (row, logits) in logits.chunks(3).enumerate() {
            let chosen = |e: usize| routing.rows(e).contains(&(row as u32));
            let over_chosen: f64 = (0..3).filter(|&e| chosen(e)).map(|e| exp(logits[e])).sum();
            let over_all: f64 = logits.iter().map(|&x| exp(x)).sum();
            for e in 0..3 {
                p[e] += f64::from(counts[row]) * exp(logits[e]) / over_all;
                if let Some(index) = routing.rows(e).iter().position(|&r| r as usize == row) {
                    picked[e] += f64::from(counts[row]);
                    sum += f64::from(d_weights[e][index]) * exp(logits[e]) / over_chosen;
                }
            }
        }
        let rows: f64 = counts.iter().map(|&c| f64::from(c)).sum();
        sum + weight * 3.0 * (0..3).map(|e| picked[e] / rows * p[e] / rows).sum::<f64>()
    }

    #[test]
    fn gradients_match_finite_differences() {
        let routing = Routing::new(&LOGITS, 3, 2);
        let d_weights = vec![vec![0.5], vec![-1.0, 2.0, 0.25], vec![1.5, -0.75]];
        let counts = vec![1.0, 4.0, 1.0];
        let mut load = RouterLoad::new(3);
        load.add_layer(&routing, &counts);
        let found = routing.backward(&d_weights, Some(&load.gradient(0.7, counts.clone())));
        let plain = routing.backward(&d_weights, None);
        assert!(found.iter().zip(&plain).any(|(found, plain)| (found - plain).abs() > 1e-3));
        let logits = LOGITS.map(f64::from);
        for (i, &found) in found.iter().enumerate() {
            let moved = |step: f64| {
                let mut logits = logits;
                logits[i] += step;
                objective(&logits, &d_weights, 0.7, &counts)
            };
            // A step too small to change any choice of experts.
            let expected = (moved(1e-4) - moved(-1e-4)) / 2e-4;
            assert!((f64::from(found) - expected).abs() < 1e-5, "{i}: {found} against {expected}");
        }
    }

    #[test]
    fn the_loss_is_that_of_all_packs_combined() {
        let (first, second) = (Routing::new(&LOGITS[..3], 3, 2), Routing::new(&LOGITS[3..], 3, 2));
        let mut apart = RouterLoad::new(3);
        apart.add_layer(&first, &[2.0]);
        let mut other = RouterLoad::new(3);
        other.add_layer(&second, &[1.0, 3.0]);
        apart.add(&other);
        let mut together = RouterLoad::new(3);
        together.add_layer(&Routing::new(&LOGITS, 3, 2), &[2.0, 1.0, 3.0]);
        assert_eq!(apart, together);
        let even = Routing::new(&[1.0, 0.0, 0.0, 1.0], 2, 1);
        let mut load = RouterLoad::new(2);
        load.add_layer(&even, &[1.0, 1.0]);
        assert!((load.loss() - 1.0).abs() < 1e-7, "{}", load.loss());
    }
}
