//! Which experts a token goes through, and how evenly tokens are spread over them.

/// The router's choice for every row of a pack.
///
/// A row's experts are those of its largest logits, the lower number first among equals, and its weights the softmax over
/// theirs alone, which is the softmax over all scaled to a sum of one.
#[derive(Debug, Clone)]
pub(crate) struct Routing {
    num_experts: usize,
    /// Softmax over all experts, [N, E].
    probabilities: Vec<f32>,
    /// Weights, [N, E]; zero for an expert that was not picked.
    weights: Vec<f32>,
    /// By expert, the rows that go through it, ascending.
    rows: Vec<Vec<u32>>,
}

impl Routing {
    /// From the router's logits, [N, E].
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

    /// The rows that go through an expert, ascending.
    pub(crate) fn rows(&self, expert: usize) -> &[u32] {
        &self.rows[expert]
    }

    /// The weights of those rows.
    pub(crate) fn weights(&self, expert: usize) -> Vec<f32> {
        self.rows[expert].iter().map(|&row| self.weights[row as usize * self.num_experts + expert]).collect()
    }

    /// The gradient of the logits, [N, E], given those of the weights by expert and row.
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
                let mut more: Vec<f32> = balance.slopes.iter().map(|slope| count * slope).collect();
                softmax_backward(&mut more, probabilities);
                d_logits.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
            }
        }
        d_logits
    }
}

/// Turns the gradient of a softmax's output into that of its input.
fn softmax_backward(d: &mut [f32], probabilities: &[f32]) {
    let mean: f32 = d.iter().zip(probabilities).map(|(d, p)| d * p).sum();
    d.iter_mut().zip(probabilities).for_each(|(d, p)| *d = p * (*d - mean));
}

/// How the tokens of some packs are spread over experts, all layers together.
///
/// A prompt counts once for each of its responses, as if every response stood alone.
#[derive(Debug, Clone, PartialEq)]
pub struct RouterLoad {
    /// By expert, how many tokens picked it.
    picked: Vec<f64>,
    /// By expert, the sum of its probabilities.
    probabilities: Vec<f64>,
    /// Tokens times layers.
    rows: f64,
}

impl RouterLoad {
    pub(crate) fn new(num_experts: usize) -> Self {
        Self { picked: vec![0.0; num_experts], probabilities: vec![0.0; num_experts], rows: 0.0 }
    }

    /// Adds one layer of a pack; `counts` says how often each row counts.
    pub(crate) fn add_layer(&mut self, routing: &Routing, counts: &[f32]) {
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

    /// Adds what other packs have.
    pub fn add(&mut self, other: &Self) {
        let sums = [(&mut self.picked, &other.picked), (&mut self.probabilities, &other.probabilities)];
        for (sum, more) in sums {
            sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
        self.rows += other.rows;
    }

    /// The balance loss `E Σ_e f_e P_e`, f_e being the share of tokens that picked expert e and P_e the mean of its
    /// probability; per_token where all experts are used alike (Switch Transformer, arXiv 2101.03961, equations 4 to 6).
    pub fn loss(&self) -> f64 {
        let terms = self.picked.iter().zip(&self.probabilities);
        let sum: f64 = terms.map(|(picked, p)| picked / self.rows * (p / self.rows)).sum();
        self.picked.len() as f64 * sum
    }

    /// The gradient of `weight` times the loss with respect to a token's probabilities, which go through the means P_e
    /// only; `counts` are a pack's.
    pub(crate) fn gradient(&self, weight: f64, counts: Vec<f32>) -> BalanceGradient {
        let factor = weight * self.picked.len() as f64 / self.rows;
        let slopes = self.picked.iter().map(|picked| (factor * picked / self.rows) as f32).collect();
        BalanceGradient { slopes, counts }
    }
}

/// What the balance loss adds to the gradient of a pack's router probabilities.
#[derive(Debug, Clone)]
pub(crate) struct BalanceGradient {
    /// By expert, for a row that counts once.
    slopes: Vec<f32>,
    /// How often each row counts, [N].
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
    fn the_largest_logits_are_picked_and_weigh_one_together() {
        let routing = Routing::new(&LOGITS, 3, 2);
        assert_eq!([routing.rows(0), routing.rows(1), routing.rows(2)], [&[1][..], &[0, 1, 2], &[0, 2]]);
        assert_eq!(routing.weights(0), [0.5]);
        let first = exp(2.0) / (exp(2.0) + exp(1.0));
        assert!((f64::from(routing.weights(1)[0]) - first).abs() < 1e-7);
        assert!((f64::from(routing.weights(2)[0]) - (1.0 - first)).abs() < 1e-7);
        let one = Routing::new(&[1.0, 1.0, 1.0], 3, 1);
        assert_eq!((one.rows(0), one.weights(0)), (&[0][..], vec![1.0]), "the lower number among equals");
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
                if let Some(place) = routing.rows(e).iter().position(|&r| r as usize == row) {
                    picked[e] += f64::from(counts[row]);
                    sum += f64::from(d_weights[e][place]) * exp(logits[e]) / over_chosen;
                }
            }
        }
        let rows: f64 = counts.iter().map(|&c| f64::from(c)).sum();
        sum + weight * 3.0 * (0..3).map(|e| picked[e] / rows * p[e] / rows).sum::<f64>()
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
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
            // Small enough to change no choice: the closest logits that compete are apart by more than that.
            let expected = (moved(1e-4) - moved(-1e-4)) / 2e-4;
            assert!((f64::from(found) - expected).abs() < 1e-5, "{i}: {found} against {expected}");
        }
    }

    #[test]
    fn the_loss_is_that_of_all_packs_together() {
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
