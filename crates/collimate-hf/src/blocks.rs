//! The tensors of a model by role, with the names and shapes they have in its files.

mod build;
mod delta;
mod scales;

use collimate_towers::Linear;

pub use self::delta::DeltaNet;
use crate::config::{ModelConfig, Stacking};

/// A tensor that a model must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name in the files: `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// Its shape; a linear layer's weight is [out, in].
    pub shape: Vec<usize>,
}

/// A linear layer of the decoder's blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinearSpec {
    /// Its name without `.weight`: `model.layers.0.self_attn.q_proj`.
    pub module: String,
    /// Width of its input.
    pub in_features: usize,
    /// Width of its output.
    pub out_features: usize,
    /// Whether it has a bias, \[out\].
    pub bias: bool,
}

/// The tensors of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Queries, keys and values.
    pub qkv: Joint<3>,
    /// The attention's output.
    pub o: LinearSpec,
    /// Norm of queries.
    pub q_norm: Option<TensorSpec>,
    /// Norm of keys.
    pub k_norm: Option<TensorSpec>,
    /// One more score of each head's softmax, \[H\].
    pub sinks: Option<TensorSpec>,
    /// Norms before and after the attention.
    pub attention_norms: HalfNorms,
    /// Norms before and after the feed-forward layer.
    pub feed_forward_norms: HalfNorms,
    /// The feed-forward layer.
    pub feed_forward: FeedForward,
    /// The further tensors of a Gated DeltaNet layer, whose queries, keys and values come from one matrix.
    pub delta: Option<DeltaNet>,
}

/// Linear layers that read the same input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joint<const N: usize> {
    /// A matrix for each output.
    Apart([LinearSpec; N]),
    /// One matrix that computes all outputs side by side, and their widths.
    Fused(LinearSpec, [usize; N]),
}

/// Norms around half a block, if there are any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HalfNorms {
    /// On the input.
    pub before: Option<TensorSpec>,
    /// On the output.
    pub after: Option<TensorSpec>,
}

/// The second half of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedForward {
    /// One layer for all tokens.
    Dense(Gated),
    /// Layers some of which a router picks for each token.
    Experts {
        /// The router.
        router: LinearSpec,
        /// What is added to the scores of experts when they are picked, \[E\].
        pick_bias: Option<TensorSpec>,
        /// Every expert, in order.
        experts: Vec<Gated>,
        /// The layer beside them.
        shared: Option<Shared>,
    },
}

/// A gated layer that every token goes through beside its experts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// The layer.
    pub layer: Gated,
    /// A linear layer with one output, whose sigmoid multiplies the layer's.
    pub gate: Option<LinearSpec>,
}

/// A gated feed-forward layer, or one expert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gated {
    /// Gate and up.
    pub gate_up: Joint<2>,
    /// Down.
    pub down: LinearSpec,
}

impl TensorSpec {
    /// A tensor with this name and shape.
    pub fn new(name: impl Into<String>, shape: &[usize]) -> Self {
        Self { name: name.into(), shape: shape.to_vec() }
    }

    /// The number of elements: the product of the shape.
    pub fn num_elements(&self) -> usize {
        self.shape.iter().product()
    }
}

impl From<&Linear> for LinearSpec {
    fn from(linear: &Linear) -> Self {
        Self {
            module: linear.module.clone(),
            in_features: linear.in_features,
            out_features: linear.out_features,
            bias: true,
        }
    }
}

impl LinearSpec {
    /// Its weight, [out, in], and its bias, if it has one.
    pub fn tensors(&self) -> impl Iterator<Item = TensorSpec> {
        let weight = TensorSpec::new(format!("{}.weight", self.module), &[self.out_features, self.in_features]);
        let bias = self.bias.then(|| TensorSpec::new(format!("{}.bias", self.module), &[self.out_features]));
        [weight].into_iter().chain(bias)
    }
}

impl<const N: usize> Joint<N> {
    /// Its matrices.
    pub fn linears(&self) -> &[LinearSpec] {
        match self {
            Self::Apart(linears) => linears,
            Self::Fused(linear, _) => std::slice::from_ref(linear),
        }
    }
}

impl Gated {
    /// Its matrices: gate and up, down.
    pub fn linears(&self) -> impl Iterator<Item = &LinearSpec> {
        self.gate_up.linears().iter().chain([&self.down])
    }
}

impl Block {
    /// Its linear layers: those of the attention, then those of the feed-forward layer.
    pub fn linears(&self) -> Vec<&LinearSpec> {
        let delta = self.delta.iter().flat_map(DeltaNet::linears);
        let attention = self.qkv.linears().iter().chain(delta).chain([&self.o]);
        match &self.feed_forward {
            FeedForward::Dense(layer) => attention.chain(layer.linears()).collect(),
            FeedForward::Experts { router, experts, shared, .. } => {
                let experts = experts.iter().flat_map(Gated::linears);
                let shared = shared.iter().flat_map(|shared| shared.layer.linears().chain(&shared.gate));
                attention.chain([router]).chain(experts).chain(shared).collect()
            }
        }
    }

    /// Its parameters that are neither a norm nor of a linear layer.
    pub fn vectors(&self) -> impl Iterator<Item = &TensorSpec> {
        let pick_bias = match &self.feed_forward {
            FeedForward::Experts { pick_bias, .. } => pick_bias.as_ref(),
            FeedForward::Dense(_) => None,
        };
        self.sinks.iter().chain(pick_bias).chain(self.delta.iter().flat_map(DeltaNet::others))
    }

    /// Its norms, in the order in which they are written to files.
    pub fn norms(&self) -> impl Iterator<Item = &TensorSpec> {
        let halves = [&self.attention_norms, &self.feed_forward_norms];
        let halves = halves.into_iter().flat_map(|half| [&half.before, &half.after]);
        [&self.q_norm, &self.k_norm].into_iter().chain(halves).flatten()
    }
}

impl ModelConfig {
    /// Every tensor that the architecture needs, by its Hugging Face name; without the output layer if it is tied.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        if let Some(scales) = &self.scales {
            return scales::tensors(self, scales);
        }
        let mut specs = vec![self.embedding()];
        specs.extend(self.condition_embedding());
        for layer in 0..self.num_hidden_layers {
            let block = self.block(layer);
            specs.extend(block.linears().into_iter().flat_map(LinearSpec::tensors));
            specs.extend(block.norms().chain(block.vectors()).cloned());
        }
        specs.push(self.final_norm());
        specs.extend(self.output_layer());
        let of_tower = self.vision.iter().flat_map(|vision| vision.tower.tensors());
        specs.extend(of_tower.map(|(name, shape)| TensorSpec { name, shape }));
        specs
    }

    /// Whether a tensor is in float32 in files of any dtype: the bias of a router's picks, and of recurrent layers the decay and
    /// the norm, as published.
    pub fn keeps_float32(&self, tensor: &str) -> bool {
        let endings = [self.family.names.pick_bias, ".linear_attn.A_log", ".linear_attn.norm.weight"];
        endings.iter().any(|ending| tensor.ends_with(ending))
    }

    /// Whether files have the numbers of a weight in another order: those of experts that share a tensor column by column.
    pub fn is_rearranged(&self, tensor: &str) -> bool {
        let names = &self.family.names;
        names.stacking == Stacking::Interleaved && tensor.contains(&format!(".{}.", names.experts))
    }

    /// The number of parameters, a tied embedding counted once.
    pub fn num_parameters(&self) -> usize {
        self.tensors().iter().map(TensorSpec::num_elements).sum()
    }

    /// Multiplications and additions of one token's forward pass through all linear layers and the output layer, of the
    /// experts only those that a token is routed to. Attention between tokens comes on top and grows with the context.
    pub fn operations_per_token(&self) -> u64 {
        let size = |linear: &LinearSpec| (linear.in_features * linear.out_features) as u64;
        let blocks = (0..self.num_hidden_layers).map(|layer| {
            let block = self.block(layer);
            let all: u64 = block.linears().into_iter().map(size).sum();
            let idle = match (&block.feed_forward, &self.experts) {
                (FeedForward::Experts { experts, .. }, Some(routing)) => {
                    &experts[routing.per_token.min(experts.len())..]
                }
                _ => &[],
            };
            all - idle.iter().flat_map(Gated::linears).map(size).sum::<u64>()
        });
        2 * (blocks.sum::<u64>() + (self.vocab_size * self.hidden_size) as u64)
    }

    /// The embedding of tokens, [V, D].
    pub fn embedding(&self) -> TensorSpec {
        let name = self.below_root(self.family.names.embedding);
        TensorSpec::new(format!("{name}.weight"), &[self.vocab_size, self.hidden_size])
    }

    /// The embedding of conditions, [conditions, D]; `None` for a language model.
    pub fn condition_embedding(&self) -> Option<TensorSpec> {
        let name = self.family.names.conditions.filter(|_| self.conditions > 0)?;
        Some(TensorSpec::new(format!("{name}.weight"), &[self.conditions, self.hidden_size]))
    }

    /// The norm before the output layer.
    pub fn final_norm(&self) -> TensorSpec {
        TensorSpec::new(self.below_root("norm.weight"), &[self.hidden_size])
    }

    /// The output layer, [V, D]; `None` if it is the embedding.
    pub fn output_layer(&self) -> Option<TensorSpec> {
        (!self.tie_word_embeddings).then(|| self.head())
    }

    /// The tensor that an output layer of its own has, or would have if it were not the embedding.
    pub fn head(&self) -> TensorSpec {
        TensorSpec::new(format!("{}.weight", self.family.names.head), &[self.vocab_size, self.hidden_size])
    }
}

/// Every linear layer of the blocks, layer by layer, and of the tower; the output layer is excluded.
pub fn linear_modules(config: &ModelConfig) -> Vec<LinearSpec> {
    let of_layer = |layer| config.block(layer).linears().into_iter().cloned().collect::<Vec<_>>();
    let of_tower =
        config.vision.iter().flat_map(|vision| vision.tower.linears()).map(|linear| LinearSpec::from(&linear));
    (0..config.num_hidden_layers).flat_map(of_layer).chain(of_tower).collect()
}
