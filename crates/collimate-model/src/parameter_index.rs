//! The table of a model's parameters: a flat list of matrices, and the index of each in it.

mod builder;
mod delta;

use collimate_backend::{ComputeDtype, PreparedBytes, WeightCosts};
use collimate_hf::{Experts, ModelConfig};
use collimate_peft::{AdapterPart, LoraConfig};
use collimate_quantized::Format;
use collimate_vision::TowerIds;

use self::builder::Builder;
pub(crate) use self::delta::DeltaIds;

/// A parameter: its name in the file and how it is stored.
///
/// Every parameter is a matrix; vectors (norms, biases) are [1, n]. Weights of linear layers are stored as [in, out], the
/// transpose of their shape in the file, so that products and their gradients read contiguous rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterInfo {
    /// Name in the Hugging Face file or, for adapters, in the PEFT file.
    pub name: String,
    /// Shape in that file.
    pub file_shape: Vec<usize>,
    /// Whether the stored matrix is the transpose of the file's.
    pub transposed: bool,
    /// Whether it belongs to an adapter: a matrix of it, or a trained copy of a whole tensor.
    pub is_adapter: bool,
    /// Whether it is the weight of a router.
    pub is_router: bool,
    /// Whether it is a number that no gradient changes: the bias of a router's picks.
    pub is_buffer: bool,
    /// The format that a weight of a block's linear layer is packed in, if it is.
    pub packed: Option<Format>,
    /// Whether it is a weight of a block's linear layer that stays in its file.
    pub in_file: bool,
    /// Whether full training leaves it as it is.
    pub is_frozen: bool,
}

impl ParameterInfo {
    /// The dtype in which passes read it, if the model computes in `compute`.
    ///
    /// Always float32 for vectors, convolutions and an adapter's matrices, which are small, and for routers, whose choices
    /// would change with bfloat16's rounding.
    pub fn dtype(&self, compute: ComputeDtype) -> ComputeDtype {
        let is_matrix = self.is_adapter && self.copy_of().is_none();
        if is_matrix || self.is_router || self.file_shape.len() != 2 { ComputeDtype::Float32 } else { compute }
    }

    /// Bytes that passes read it from, if the model computes in `compute`.
    pub fn num_bytes(&self, compute: ComputeDtype) -> u64 {
        match (self.packed, self.file_shape.as_slice()) {
            (Some(format), &[rows, columns]) => format.byte_count(rows, columns),
            _ => self.file_shape.iter().product::<usize>() as u64 * self.dtype(compute).num_bytes(),
        }
    }

    /// What it takes as a plain weight that products read in an order of their own, if they do.
    pub(crate) fn prepared_bytes(&self, costs: WeightCosts, compute: ComputeDtype) -> Option<PreparedBytes> {
        let &[rows, columns] = self.file_shape.as_slice() else { return None };
        if self.transposed { (costs.prepared)([rows, columns], self.dtype(compute)) } else { None }
    }

    /// The tensor of the base model that this is a trained copy of, if it is one.
    pub fn copy_of(&self) -> Option<&str> {
        match AdapterPart::parse(&self.name) {
            Some((tensor, AdapterPart::Copy)) if self.is_adapter => Some(tensor),
            _ => None,
        }
    }

    /// Shape of the stored matrix.
    pub fn stored_shape(&self) -> [usize; 2] {
        match (self.file_shape.as_slice(), self.transposed) {
            ([rows, columns], true) => [*columns, *rows],
            ([rows, columns], false) => [*rows, *columns],
            (other, _) => [1, other.iter().product()],
        }
    }
}

/// Which parameters training changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trainable {
    /// None: for scoring and generation.
    Nothing,
    /// All of the base model that is not frozen, which has no adapter.
    Base,
    /// Only the adapter's factors.
    Adapter,
}

impl Trainable {
    /// Whether training changes a parameter.
    pub(crate) fn includes(self, info: &ParameterInfo) -> bool {
        match self {
            Self::Nothing => false,
            Self::Base => !info.is_adapter && !info.is_buffer && !info.is_frozen,
            Self::Adapter => info.is_adapter,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct LoraIds {
    pub(crate) a: usize,
    pub(crate) b: usize,
    /// DoRA's length of each row of the weight.
    pub(crate) magnitude: Option<usize>,
    /// The factor s of `s · B A`.
    pub(crate) scale: f32,
}

impl LoraIds {
    /// Indices of its parameters.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = usize> {
        [self.a, self.b].into_iter().chain(self.magnitude)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct LinearIds {
    pub(crate) weight: usize,
    pub(crate) bias: Option<usize>,
    pub(crate) lora: Option<LoraIds>,
    /// Position among the model's linear layers, which identifies its dropout draws.
    pub(crate) ordinal: usize,
}

/// Linear layers that read the same input.
#[derive(Debug, Clone)]
pub(crate) enum JointIds<const N: usize> {
    /// One per output.
    Separate([LinearIds; N]),
    /// One whose output columns are all outputs side by side, and their widths.
    Fused(LinearIds, [usize; N]),
}

/// Norms on the input and the output of half a block, if it has them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NormIds {
    pub(crate) before: Option<usize>,
    pub(crate) after: Option<usize>,
}

/// A gated feed-forward layer, or one expert.
#[derive(Debug, Clone)]
pub(crate) struct GatedIds {
    pub(crate) gate_up: JointIds<2>,
    pub(crate) down: LinearIds,
}

#[derive(Debug, Clone)]
pub(crate) enum FeedForwardIds {
    /// One for all tokens, with an optional norm on its output.
    Dense { layer: GatedIds, norm: Option<usize> },
    /// Several, some of which the router picks for each token.
    Experts(ExpertIds),
}

#[derive(Debug, Clone)]
pub(crate) struct ExpertIds {
    pub(crate) router: LinearIds,
    /// What is added to the scores of experts when they are picked.
    pub(crate) pick_bias: Option<usize>,
    pub(crate) experts: Vec<GatedIds>,
    pub(crate) shared: Option<Box<SharedIds>>,
    /// How the router picks and weighs.
    pub(crate) config: Experts,
}

/// A gated layer beside the experts, and the linear layer whose sigmoid multiplies its output.
#[derive(Debug, Clone)]
pub(crate) struct SharedIds {
    pub(crate) layer: GatedIds,
    pub(crate) gate: Option<LinearIds>,
}

#[derive(Debug, Clone)]
pub(crate) struct LayerIds {
    pub(crate) attention_norms: NormIds,
    pub(crate) qkv: JointIds<3>,
    pub(crate) q_norm: Option<usize>,
    pub(crate) k_norm: Option<usize>,
    pub(crate) sinks: Option<usize>,
    pub(crate) o: LinearIds,
    /// What a layer without keys and values has besides.
    pub(crate) delta: Option<DeltaIds>,
    /// Norm on the input of the feed-forward layer.
    pub(crate) feed_forward_norm: Option<usize>,
    pub(crate) feed_forward: FeedForwardIds,
}

impl LinearIds {
    /// Indices of all its parameters.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = usize> {
        let lora = self.lora.iter().flat_map(LoraIds::parameters);
        [Some(self.weight), self.bias].into_iter().flatten().chain(lora)
    }
}

impl<const N: usize> JointIds<N> {
    /// The linear layers.
    pub(crate) fn linears(&self) -> &[LinearIds] {
        match self {
            Self::Separate(linears) => linears,
            Self::Fused(linear, _) => std::slice::from_ref(linear),
        }
    }
}

impl GatedIds {
    /// Indices of all its parameters.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = usize> {
        self.gate_up.linears().iter().chain([&self.down]).flat_map(LinearIds::parameters)
    }
}

impl ExpertIds {
    /// Indices of all its parameters.
    fn parameters(&self) -> impl Iterator<Item = usize> {
        let shared = self.shared.iter();
        let shared = shared.flat_map(|ids| {
            let gate = ids.gate.iter().flat_map(LinearIds::parameters);
            ids.layer.parameters().chain(gate)
        });
        let experts = self.experts.iter().flat_map(GatedIds::parameters);
        self.router.parameters().chain(self.pick_bias).chain(experts).chain(shared)
    }
}

impl LayerIds {
    /// Indices of all its parameters.
    pub(crate) fn parameters(&self) -> Vec<usize> {
        let NormIds { before, after } = self.attention_norms;
        let vectors = [before, after, self.q_norm, self.k_norm, self.sinks, self.feed_forward_norm];
        let attention = self.qkv.linears().iter().chain([&self.o]).flat_map(LinearIds::parameters);
        let delta = self.delta.iter().flat_map(DeltaIds::parameters);
        let first = attention.chain(vectors.into_iter().flatten()).chain(delta);
        match &self.feed_forward {
            FeedForwardIds::Dense { layer, norm } => first.chain(layer.parameters()).chain(*norm).collect(),
            FeedForwardIds::Experts(ids) => first.chain(ids.parameters()).collect(),
        }
    }
}

/// The parameters that a pass reads, by their places in the model.
#[derive(Debug, Clone)]
pub(crate) struct ModelIds {
    pub(crate) embedding: usize,
    /// The embedding of conditions, whose tokens follow the vocabulary, if the model has one.
    pub(crate) conditions: Option<usize>,
    /// Matrices of the embedding, stored as [V, r] and [r, D].
    pub(crate) embedding_lora: Option<LoraIds>,
    pub(crate) layers: Vec<LayerIds>,
    pub(crate) final_norm: usize,
    /// The output layer; if it is the embedding, that parameter. Its matrices are stored as [D, r] and [V, r].
    pub(crate) head: LinearIds,
    /// The vision tower.
    pub(crate) tower: Option<TowerIds>,
}

impl ModelIds {
    /// Indices of the parameters that embed tokens or images.
    pub(crate) fn input_parameters(&self) -> impl Iterator<Item = usize> {
        self.embedding_parameters().chain(self.tower.iter().flat_map(TowerIds::parameters))
    }

    /// Indices of the parameters that embed tokens.
    fn embedding_parameters(&self) -> impl Iterator<Item = usize> {
        let tables = [self.embedding].into_iter().chain(self.conditions);
        tables.chain(self.embedding_lora.iter().flat_map(LoraIds::parameters))
    }
}

/// A model's parameters, and the indices of those that a pass reads.
#[derive(Debug, Clone)]
pub(crate) struct ParameterIndex {
    pub(crate) infos: Vec<ParameterInfo>,
    /// Without the adapter.
    pub(crate) base: ModelIds,
    /// With the adapter, if there is one: its matrices, and its copies in place of what they are copies of.
    pub(crate) adapted: ModelIds,
}

impl ParameterIndex {
    pub(crate) fn new(config: &ModelConfig, lora: Option<&LoraConfig>) -> Self {
        let mut builder = Builder::new(config);
        let base = builder.model(config);
        let adapted = match lora {
            None => base.clone(),
            Some(lora) => {
                builder.attach(config, lora);
                builder.model(config)
            }
        };
        Self { infos: builder.infos, base, adapted }
    }
}
