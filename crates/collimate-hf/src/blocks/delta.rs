//! The tensors of a Gated DeltaNet layer.

use super::{LinearSpec, TensorSpec};
use crate::config::LinearAttention;

/// What a Gated DeltaNet layer has besides its projections to queries, keys and values, and to its output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaNet {
    /// Gate on the output.
    pub gate: LinearSpec,
    /// How far a value is corrected, before its sigmoid.
    pub beta: LinearSpec,
    /// The decay of a state, before its softplus.
    pub decay: LinearSpec,
    /// Taps of each column of queries, keys and values, [width, 1, taps].
    pub convolution: TensorSpec,
    /// Logarithm of each head's factor of the decay.
    pub decay_scale: TensorSpec,
    /// Added to the decay before its softplus.
    pub decay_bias: TensorSpec,
    /// Norm of each head's output.
    pub norm: TensorSpec,
}

impl DeltaNet {
    /// The tensors of the layer at `root` of a model of this width.
    pub(super) fn new(root: &str, width: usize, sizes: LinearAttention) -> Self {
        let projection = |name, out_features| linear(root, name, [width, out_features]);
        let tensor = |name: &str, shape: &[usize]| TensorSpec::new(format!("{root}.linear_attn.{name}"), shape);
        Self {
            gate: projection("in_proj_z", sizes.values_width()),
            beta: projection("in_proj_b", sizes.value_heads),
            decay: projection("in_proj_a", sizes.value_heads),
            convolution: tensor("conv1d.weight", &[sizes.width(), 1, sizes.taps]),
            decay_scale: tensor("A_log", &[sizes.value_heads]),
            decay_bias: tensor("dt_bias", &[sizes.value_heads]),
            norm: tensor("norm.weight", &[sizes.value_dim]),
        }
    }

    /// Its linear layers.
    pub fn linears(&self) -> [&LinearSpec; 3] {
        [&self.gate, &self.beta, &self.decay]
    }

    /// Its other tensors.
    pub fn others(&self) -> [&TensorSpec; 4] {
        [&self.convolution, &self.decay_scale, &self.decay_bias, &self.norm]
    }
}

/// The projection to queries, keys and values.
pub(super) fn qkv(root: &str, width: usize, sizes: LinearAttention) -> LinearSpec {
    linear(root, "in_proj_qkv", [width, sizes.width()])
}

/// The projection to the layer's output.
pub(super) fn output(root: &str, width: usize, sizes: LinearAttention) -> LinearSpec {
    linear(root, "out_proj", [sizes.values_width(), width])
}

fn linear(root: &str, name: &str, [in_features, out_features]: [usize; 2]) -> LinearSpec {
    LinearSpec { module: format!("{root}.linear_attn.{name}"), in_features, out_features, bias: false }
}
