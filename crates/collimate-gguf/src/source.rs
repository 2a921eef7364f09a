//! A tensor of the file and the weights it is made of.

use crate::blocks::GgufType;

/// A tensor of the file and where its values come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TensorSource {
    pub(crate) name: String,
    /// Slowest dimension first, as in the model.
    pub(crate) shape: Vec<usize>,
    pub(crate) stored: GgufType,
    pub(crate) source: Source,
}

/// Where a tensor's values come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    /// A weight, unchanged.
    Weight(String),
    /// The weight of a norm that multiplies by 1 + weight.
    OnePlus(String),
    /// Queries or keys with their rows in llama.cpp's order.
    Interleaved { name: String, heads: usize },
    /// The same weight of every expert, concatenated.
    Stacked(Vec<String>),
    /// Computed from the configuration.
    Values(Vec<f32>),
}

impl TensorSource {
    pub(crate) fn num_bytes(&self) -> usize {
        self.stored.num_bytes(self.shape.iter().product())
    }
}
