//! How evenly a pack's router spreads its tokens over experts.

use collimate_routing::{BalanceGradient, RouterLoad, Routing};
use collimate_text::GroupBatch;

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
