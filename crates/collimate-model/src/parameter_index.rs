//! The table of a model's parameters: a flat list of matrices, and the index of each in it.

use std::collections::HashMap;

use collimate_backend::ComputeDtype;
use collimate_hf::{Block, FeedForward, Gated, HalfNorms, Joint, LinearSpec, LoraConfig, ModelConfig, TensorSpec};

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
    /// Whether it belongs to an adapter.
    pub is_adapter: bool,
    /// Whether it is the weight of a router.
    pub is_router: bool,
}

impl ParameterInfo {
    /// The dtype in which passes read it, if the model computes in `compute`.
    ///
    /// Always float32 for vectors and adapters, which are small, and for routers, whose choices would change with
    /// bfloat16's rounding.
    pub fn dtype(&self, compute: ComputeDtype) -> ComputeDtype {
        if self.is_adapter || self.is_router || self.file_shape.len() < 2 { ComputeDtype::Float32 } else { compute }
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
    /// All of the base model, which has no adapter.
    Base,
    /// Only the adapter's factors.
    Adapter,
}

impl Trainable {
    /// Whether training changes a parameter.
    pub(crate) fn includes(self, info: &ParameterInfo) -> bool {
        match self {
            Self::Nothing => false,
            Self::Base => !info.is_adapter,
            Self::Adapter => info.is_adapter,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct LoraIds {
    pub(crate) a: usize,
    pub(crate) b: usize,
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
    pub(crate) experts: Vec<GatedIds>,
    /// Experts per token.
    pub(crate) per_token: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct LayerIds {
    pub(crate) attention_norms: NormIds,
    pub(crate) qkv: JointIds<3>,
    pub(crate) q_norm: Option<usize>,
    pub(crate) k_norm: Option<usize>,
    pub(crate) o: LinearIds,
    /// Norm on the input of the feed-forward layer.
    pub(crate) feed_forward_norm: Option<usize>,
    pub(crate) feed_forward: FeedForwardIds,
}

impl LinearIds {
    /// Indices of all its parameters.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = usize> {
        let lora = self.lora.as_ref().map(|lora| [lora.a, lora.b]);
        [Some(self.weight), self.bias].into_iter().flatten().chain(lora.into_iter().flatten())
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

impl LayerIds {
    /// Indices of all its parameters.
    pub(crate) fn parameters(&self) -> Vec<usize> {
        let NormIds { before, after } = self.attention_norms;
        let norms = [before, after, self.q_norm, self.k_norm, self.feed_forward_norm];
        let attention = self.qkv.linears().iter().chain([&self.o]).flat_map(LinearIds::parameters);
        let first = attention.chain(norms.into_iter().flatten());
        match &self.feed_forward {
            FeedForwardIds::Dense { layer, norm } => first.chain(layer.parameters()).chain(*norm).collect(),
            FeedForwardIds::Experts(ids) => {
                first.chain(ids.router.parameters()).chain(ids.experts.iter().flat_map(GatedIds::parameters)).collect()
            }
        }
    }
}

/// A model's parameters, and the index of each.
#[derive(Debug, Clone)]
pub(crate) struct ParameterIndex {
    pub(crate) infos: Vec<ParameterInfo>,
    pub(crate) embedding: usize,
    pub(crate) layers: Vec<LayerIds>,
    pub(crate) final_norm: usize,
    /// `None` if the output layer is the embedding.
    head: Option<usize>,
}

impl ParameterIndex {
    /// The weight of the output layer.
    pub(crate) fn head(&self) -> usize {
        self.head.unwrap_or(self.embedding)
    }

    pub(crate) fn new(config: &ModelConfig, lora: Option<&LoraConfig>) -> Self {
        let mut builder = Builder { infos: Vec::new(), by_name: HashMap::new(), linears: 0, lora };
        // The embedding and the output layer are not transposed, because their rows are picked by token.
        let (embedding, output_layer) = (config.embedding(), config.output_layer());
        for spec in config.tensors() {
            let by_token = spec == embedding || Some(&spec) == output_layer.as_ref();
            let transposed = spec.shape.len() == 2 && !by_token;
            builder.push(spec.name, spec.shape, transposed, false);
        }
        let per_token = config.experts.map_or(0, |experts| experts.per_token);
        let layers = (0..config.num_hidden_layers).map(|i| builder.layer(&config.block(i), per_token)).collect();
        Self {
            embedding: builder.by_name[&embedding.name],
            layers,
            final_norm: builder.by_name[&config.final_norm().name],
            head: output_layer.map(|spec| builder.by_name[&spec.name]),
            infos: builder.infos,
        }
    }
}

struct Builder<'a> {
    infos: Vec<ParameterInfo>,
    by_name: HashMap<String, usize>,
    linears: usize,
    lora: Option<&'a LoraConfig>,
}

impl Builder<'_> {
    fn push(&mut self, name: String, file_shape: Vec<usize>, transposed: bool, is_adapter: bool) -> usize {
        self.by_name.insert(name.clone(), self.infos.len());
        self.infos.push(ParameterInfo { name, file_shape, transposed, is_adapter, is_router: false });
        self.infos.len() - 1
    }

    fn layer(&mut self, block: &Block, per_token: usize) -> LayerIds {
        let HalfNorms { before, after } = &block.attention_norms;
        LayerIds {
            attention_norms: NormIds { before: self.norm(before), after: self.norm(after) },
            qkv: self.joint(&block.qkv),
            q_norm: self.norm(&block.q_norm),
            k_norm: self.norm(&block.k_norm),
            o: self.linear(&block.o),
            feed_forward_norm: self.norm(&block.feed_forward_norms.before),
            feed_forward: match &block.feed_forward {
                FeedForward::Dense(layer) => {
                    let norm = self.norm(&block.feed_forward_norms.after);
                    FeedForwardIds::Dense { layer: self.gated(layer), norm }
                }
                FeedForward::Experts { router, experts } => {
                    let router = self.linear(router);
                    self.infos[router.weight].is_router = true;
                    let experts = experts.iter().map(|expert| self.gated(expert)).collect();
                    FeedForwardIds::Experts(ExpertIds { router, experts, per_token })
                }
            },
        }
    }

    fn norm(&self, spec: &Option<TensorSpec>) -> Option<usize> {
        spec.as_ref().map(|spec| self.by_name[&spec.name])
    }

    fn gated(&mut self, layer: &Gated) -> GatedIds {
        GatedIds { gate_up: self.joint(&layer.gate_up), down: self.linear(&layer.down) }
    }

    fn joint<const N: usize>(&mut self, joint: &Joint<N>) -> JointIds<N> {
        match joint {
            Joint::Apart(linears) => JointIds::Separate(linears.each_ref().map(|linear| self.linear(linear))),
            Joint::Fused(linear, widths) => JointIds::Fused(self.linear(linear), *widths),
        }
    }

    fn linear(&mut self, linear: &LinearSpec) -> LinearIds {
        let LinearSpec { module, in_features, out_features, .. } = linear;
        let weight = self.by_name[&format!("{module}.weight")];
        let bias = self.by_name.get(&format!("{module}.bias")).copied();
        let lora = self.lora.filter(|config| config.matches(module)).map(|config| {
            let name = |factor: &str| format!("base_model.model.{module}.lora_{factor}.weight");
            LoraIds {
                a: self.push(name("A"), vec![config.r, *in_features], true, true),
                b: self.push(name("B"), vec![*out_features, config.r], true, true),
            }
        });
        let ordinal = self.linears;
        self.linears += 1;
        LinearIds { weight, bias, lora, ordinal }
    }
}
