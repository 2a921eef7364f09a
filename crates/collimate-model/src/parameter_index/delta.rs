//! The parameters of a Gated DeltaNet.

use super::LinearIds;

/// What a Gated DeltaNet has besides its projections to queries, keys and values, and to its output.
#[derive(Debug, Clone)]
pub(crate) struct DeltaIds {
    pub(crate) gate: LinearIds,
    pub(crate) beta: LinearIds,
    pub(crate) decay: LinearIds,
    pub(crate) convolution: usize,
    pub(crate) decay_scale: usize,
    pub(crate) decay_bias: usize,
    /// Norm of each head's output.
    pub(crate) norm: usize,
}

impl DeltaIds {
    /// Indices of all its parameters.
    pub(super) fn parameters(&self) -> impl Iterator<Item = usize> {
        let linears = [&self.gate, &self.beta, &self.decay].into_iter().flat_map(LinearIds::parameters);
        linears.chain([self.convolution, self.decay_scale, self.decay_bias, self.norm])
    }
}
