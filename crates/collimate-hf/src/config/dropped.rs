//! What training drops at random.

use super::ModelConfig;

/// Shares that training drops at random, so that nothing relies on a single number or layer. Scoring and generation drop
/// nothing. What is kept grows by as much.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Dropped {
    /// Share of the numbers of embeddings, and of what attention and feed-forward layers add to the residual stream.
    pub numbers: f64,
    /// Share of times that what attention or a feed-forward layer adds to a whole sequence is left out, in the last block; in
    /// block i of n, i/(n − 1) of it.
    pub paths: f64,
}

impl Dropped {
    /// Whether nothing is dropped.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

impl ModelConfig {
    /// What the family's publishers train with; `None` for families whose pre-training drops nothing.
    ///
    /// LlamaGen: `dropout_p` and `token_dropout_p` of 0.1. VAR: `drop_path_rate` of 0.1 · depth / 24.
    pub fn published_dropout(&self) -> Option<Dropped> {
        match self.family.model_type {
            "llamagen" => Some(Dropped { numbers: 0.1, paths: 0.0 }),
            "var" => Some(Dropped { numbers: 0.0, paths: 0.1 * self.num_hidden_layers as f64 / 24.0 }),
            _ => None,
        }
    }
}
