//! How evenly a router spreads tokens over experts.

use crate::{BalanceGradient, Routing};

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
    /// The load of no pack.
    pub fn new(num_experts: usize) -> Self {
        Self { picked: vec![0.0; num_experts], probabilities: vec![0.0; num_experts], rows: 0.0 }
    }

    /// Adds one layer of a pack; `counts` is each row's multiplicity.
    pub fn add_layer(&mut self, routing: &Routing, counts: &[f32]) {
        for (picked, rows) in self.picked.iter_mut().zip(routing.all_rows()) {
            *picked += rows.iter().map(|&row| f64::from(counts[row as usize])).sum::<f64>();
        }
        for (row, &count) in routing.probabilities().chunks_exact(self.picked.len()).zip(counts) {
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
    pub fn gradient(&self, weight: f64, counts: Vec<f32>) -> BalanceGradient {
        let factor = weight * self.picked.len() as f64 / self.rows;
        let slopes = self.picked.iter().map(|picked| (factor * picked / self.rows) as f32).collect();
        BalanceGradient { slopes, counts }
    }
}
