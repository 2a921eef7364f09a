//! The tensors of a block, from a configuration and the names of its family.

use super::delta;
use super::{Block, DeltaNet, FeedForward, Gated, HalfNorms, Joint, LinearSpec, Shared, TensorSpec};
use crate::config::{Experts, HalfNames, JointNames, ModelConfig, QkNorm, SharedExpert};

impl ModelConfig {
    /// The tensors of one block.
    pub fn block(&self, layer: usize) -> Block {
        let names = &self.family.names;
        let root = self.below_root(&format!("layers.{layer}"));
        let (width, dim) = (self.hidden_size, self.head_dim);
        let (queries, keys) = (self.num_attention_heads * dim, self.num_key_value_heads * dim);
        let bias = self.attention_bias;
        let norm = |name: &str, len: usize| TensorSpec::new(format!("{root}.{name}.weight"), &[len]);
        let half = |names: HalfNames| HalfNorms {
            before: names.before.map(|name| norm(name, width)),
            after: names.after.map(|name| norm(name, width)),
        };
        let (q_len, k_len) = match self.qk_norm {
            QkNorm::None => (None, None),
            QkNorm::Head => (Some(dim), Some(dim)),
            QkNorm::Projection => (Some(queries), Some(keys)),
        };
        let sizes = self.linear_attention_of(layer);
        let (qkv, o) = match sizes {
            Some(sizes) => {
                let widths = [sizes.keys_width(), sizes.keys_width(), sizes.values_width()];
                (Joint::Fused(delta::qkv(&root, width, sizes), widths), delta::output(&root, width, sizes))
            }
            None => {
                let gates = if self.attention_gate { queries } else { 0 };
                let outputs = [(queries + gates, bias.q), (keys, bias.k), (keys, bias.v)];
                (joint(&root, names.qkv, width, outputs), linear(&root, names.o, [queries, width], bias.o))
            }
        };
        let head_norm = |name, len: Option<usize>| len.filter(|_| sizes.is_none()).map(|len| norm(name, len));
        Block {
            qkv,
            o,
            q_norm: head_norm(names.q_norm, q_len),
            k_norm: head_norm(names.k_norm, k_len),
            sinks: self.attention_sinks.then(|| vector(&root, names.sinks, self.num_attention_heads)),
            attention_norms: half(names.attention_norms),
            feed_forward_norms: half(names.feed_forward_norms),
            feed_forward: self.feed_forward(layer, &root),
            delta: sizes.map(|sizes| DeltaNet::new(&root, width, sizes)),
        }
    }

    fn feed_forward(&self, layer: usize, root: &str) -> FeedForward {
        let names = &self.family.names;
        let (width, inner, bias) = (self.hidden_size, self.intermediate_size, self.mlp_bias);
        let Some(experts) = self.experts_of(layer) else {
            let gate_up = joint(root, names.gate_up, width, [(inner, bias), (inner, bias)]);
            return FeedForward::Dense(Gated { gate_up, down: linear(root, names.down, [inner, width], bias) });
        };
        FeedForward::Experts {
            router: linear(root, names.router, [width, experts.count], experts.has_biases),
            pick_bias: experts.picks_with_bias.then(|| vector(root, names.pick_bias, experts.count)),
            experts: (0..experts.count).map(|number| self.expert(root, number, experts)).collect(),
            shared: experts.shared.map(|shared| self.shared_expert(root, shared)),
        }
    }

    fn expert(&self, root: &str, number: usize, experts: Experts) -> Gated {
        let (names, width, inner) = (&self.family.names, self.hidden_size, experts.intermediate_size);
        let part =
            |name: &str, sizes| linear(root, &format!("{}.{number}.{name}", names.experts), sizes, experts.has_biases);
        let [gate, up, down] = names.expert;
        let gate_up = Joint::Apart([part(gate, [width, inner]), part(up, [width, inner])]);
        Gated { gate_up, down: part(down, [inner, width]) }
    }

    fn shared_expert(&self, root: &str, shared: SharedExpert) -> Shared {
        let (names, width, inner) = (&self.family.names, self.hidden_size, shared.intermediate_size);
        let part = |name: &str, sizes| linear(root, &format!("{}.{name}", names.shared), sizes, false);
        let [gate, up, down] = names.expert;
        let gate_up = Joint::Apart([part(gate, [width, inner]), part(up, [width, inner])]);
        let gate = shared.is_gated.then(|| linear(root, names.shared_gate, [width, 1], false));
        Shared { layer: Gated { gate_up, down: part(down, [inner, width]) }, gate }
    }
}

fn linear(root: &str, name: &str, [in_features, out_features]: [usize; 2], bias: bool) -> LinearSpec {
    LinearSpec { module: format!("{root}.{name}"), in_features, out_features, bias }
}

/// A parameter that is no weight of a module.
fn vector(root: &str, name: &str, len: usize) -> TensorSpec {
    TensorSpec::new(format!("{root}.{name}"), &[len])
}

/// Linear layers that read the same input; for each output the width, and whether it has a bias.
fn joint<const N: usize>(root: &str, names: JointNames<N>, width: usize, outputs: [(usize, bool); N]) -> Joint<N> {
    match names {
        JointNames::Apart(names) => {
            let mut outputs = outputs.into_iter();
            Joint::Apart(names.map(|name| {
                let (len, bias) = outputs.next().unwrap_or_default();
                linear(root, name, [width, len], bias)
            }))
        }
        JointNames::Fused(name) => {
            let widths = outputs.map(|(len, _)| len);
            let bias = outputs.iter().any(|(_, bias)| *bias);
            Joint::Fused(linear(root, name, [width, widths.iter().sum()], bias), widths)
        }
    }
}
