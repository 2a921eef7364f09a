//! How evenly a router spreads tokens over experts.

use collimate_text::GroupBatch;

use crate::routing::{BalanceGradient, Routing};

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
    pub(crate) fn new(num_experts: usize) -> Self {
        Self { picked: vec![0.0; num_experts], probabilities: vec![0.0; num_experts], rows: 0.0 }
    }

    /// Adds one layer of a pack; `counts` is each row's multiplicity.
    pub(crate) fn add_layer(&mut self, routing: &Routing, counts: &[f32]) {
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
    pub(crate) fn gradient(&self, weight: f64, counts: Vec<f32>) -> BalanceGradient {
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
