//! Builds the table of a model's parameters.

use std::collections::HashMap;

use collimate_hf::{
    DeltaNet, FeedForward, Gated, HalfNorms, Joint, LinearSpec, ModelConfig, Shared, TensorSpec, Vision,
};
use collimate_peft::{AdapterPart, FactorNames, LoraConfig};
use collimate_vision::TowerIds;

use super::{
    DeltaIds, ExpertIds, FeedForwardIds, GatedIds, JointIds, LayerIds, LinearIds, LoraIds, ModelIds, NormIds,
    ParameterInfo, SharedIds,
};

/// The table so far.
pub(super) struct Builder<'a> {
    pub(super) infos: Vec<ParameterInfo>,
    by_name: HashMap<String, usize>,
    /// Matrices A so far: gate and up of an expert may have one together.
    shared: HashMap<String, usize>,
    /// Number of linear layers so far in this pass over the model.
    linears: usize,
    config: &'a ModelConfig,
    lora: Option<&'a LoraConfig>,
}

impl<'a> Builder<'a> {
    /// The table of the base model's parameters.
    pub(super) fn new(config: &'a ModelConfig) -> Self {
        let mut builder =
            Self { infos: Vec::new(), by_name: HashMap::new(), shared: HashMap::new(), linears: 0, config, lora: None };
        for spec in config.tensors() {
            let transposed = is_transposed(config, &spec);
            let (name, shape) = (spec.name.clone(), spec.shape);
            let id = builder.push(name, shape, transposed, false);
            builder.infos[id].is_frozen = config.vision.as_ref().is_some_and(|vision| vision.is_frozen(&spec.name));
            builder.by_name.insert(spec.name, id);
        }
        builder
    }

    /// Adds an adapter's copies, which take the place of what they are copies of; [`Builder::model`] adds its matrices.
    pub(super) fn attach(&mut self, config: &ModelConfig, lora: &'a LoraConfig) {
        self.lora = Some(lora);
        for spec in lora.copies(config) {
            let transposed = is_transposed(config, &spec);
            let id = self.push(AdapterPart::Copy.name(&spec.name), spec.shape, transposed, true);
            self.by_name.insert(spec.name, id);
        }
    }

    /// The indices of a pass over the model.
    pub(super) fn model(&mut self, config: &ModelConfig) -> ModelIds {
        self.linears = 0;
        if config.scales.is_some() {
            return self.without_blocks();
        }
        let layers = (0..config.num_hidden_layers).map(|i| self.layer(config, i)).collect();
        let embedding = config.embedding();
        let head = LinearSpec {
            module: module_of(&config.head().name),
            in_features: config.hidden_size,
            out_features: config.vocab_size,
            bias: false,
        };
        let tied = self.base_embedding(&embedding.name);
        let weight = self.by_name.get(&config.head().name).copied().unwrap_or(tied);
        let head = LinearIds { weight, bias: None, lora: self.lora_ids(&head, false), ordinal: self.linears };
        let lora = self.lora.filter(|lora| lora.targets_embedding(config));
        let embedding_lora = lora.map(|lora| {
            let (module, width) = (module_of(&embedding.name), config.hidden_size);
            let r = lora.rank_of(&module);
            let scale = lora.scale_of(&module) as f32;
            let (a, b) = (AdapterPart::EmbeddingA.name(&module), AdapterPart::EmbeddingB.name(&module));
            let a = self.push(a, vec![r, config.vocab_size], true, true);
            let b = self.push(b, vec![width, r], true, true);
            LoraIds { a, b, magnitude: None, scale }
        });
        ModelIds {
            embedding: self.by_name[&embedding.name],
            conditions: config.condition_embedding().map(|spec| self.by_name[&spec.name]),
            embedding_lora,
            layers,
            final_norm: self.by_name[&config.final_norm().name],
            head,
            tower: config.vision.as_ref().map(|vision| self.tower(vision)),
        }
    }

    /// The indices of a model that is no decoder: no pass reads them.
    fn without_blocks(&self) -> ModelIds {
        let head = LinearIds { weight: 0, bias: None, lora: None, ordinal: 0 };
        ModelIds {
            embedding: 0,
            conditions: None,
            embedding_lora: None,
            layers: Vec::new(),
            final_norm: 0,
            head,
            tower: None,
        }
    }

    fn tower(&mut self, vision: &Vision) -> TowerIds {
        let by_name = self.by_name.clone();
        let mut lora = |linear: &collimate_vision::Linear| {
            let LoraIds { a, b, scale, .. } = self.lora_ids(&linear.into(), true)?;
            Some(collimate_vision::LoraIds { a, b, scale })
        };
        TowerIds::new(&vision.tower, &mut |name| by_name[name], &mut lora)
    }

    /// The embedding of the base model, which a tied output layer is even if there is a trained copy.
    fn base_embedding(&self, name: &str) -> usize {
        self.infos.iter().position(|info| info.name == name).unwrap_or_default()
    }

    fn push(&mut self, name: String, file_shape: Vec<usize>, transposed: bool, is_adapter: bool) -> usize {
        self.infos.push(ParameterInfo {
            name,
            file_shape,
            transposed,
            is_adapter,
            is_router: false,
            is_buffer: false,
            packed: None,
            in_file: false,
            is_frozen: false,
        });
        self.infos.len() - 1
    }

    fn layer(&mut self, config: &ModelConfig, layer: usize) -> LayerIds {
        let block = config.block(layer);
        let HalfNorms { before, after } = &block.attention_norms;
        LayerIds {
            attention_norms: NormIds { before: self.norm(before), after: self.norm(after) },
            qkv: self.joint(&block.qkv),
            q_norm: self.norm(&block.q_norm),
            k_norm: self.norm(&block.k_norm),
            sinks: self.norm(&block.sinks),
            o: self.linear(&block.o),
            delta: block.delta.as_ref().map(|delta| self.delta(delta)),
            feed_forward_norm: self.norm(&block.feed_forward_norms.before),
            feed_forward: match (&block.feed_forward, config.experts_of(layer)) {
                (FeedForward::Experts { router, pick_bias, experts, shared }, Some(config)) => {
                    let router = self.linear(router);
                    let info = &mut self.infos[router.weight];
                    (info.is_router, info.packed, info.in_file) = (true, None, false);
                    let pick_bias = self.norm(pick_bias);
                    pick_bias.into_iter().for_each(|id| self.infos[id].is_buffer = true);
                    let experts = experts.iter().map(|expert| self.gated(expert)).collect();
                    let shared = shared.as_ref().map(|shared| self.shared_layer(shared).into());
                    FeedForwardIds::Experts(ExpertIds { router, pick_bias, experts, shared, config })
                }
                (FeedForward::Dense(layer), _) => {
                    let norm = self.norm(&block.feed_forward_norms.after);
                    FeedForwardIds::Dense { layer: self.gated(layer), norm }
                }
                (FeedForward::Experts { .. }, None) => unreachable!("a block has experts only by its configuration"),
            },
        }
    }

    fn norm(&self, spec: &Option<TensorSpec>) -> Option<usize> {
        spec.as_ref().map(|spec| self.by_name[&spec.name])
    }

    fn delta(&mut self, delta: &DeltaNet) -> DeltaIds {
        let [convolution, decay_scale, decay_bias, norm] = delta.others().map(|spec| self.by_name[&spec.name]);
        let [gate, beta, decay] = delta.linears().map(|linear| self.linear(linear));
        DeltaIds { gate, beta, decay, convolution, decay_scale, decay_bias, norm }
    }

    fn gated(&mut self, layer: &Gated) -> GatedIds {
        GatedIds { gate_up: self.joint(&layer.gate_up), down: self.linear(&layer.down) }
    }

    fn shared_layer(&mut self, shared: &Shared) -> SharedIds {
        let layer = self.gated(&shared.layer);
        SharedIds { layer, gate: shared.gate.as_ref().map(|gate| self.linear(gate)) }
    }

    fn joint<const N: usize>(&mut self, joint: &Joint<N>) -> JointIds<N> {
        match joint {
            Joint::Apart(linears) => JointIds::Separate(linears.each_ref().map(|linear| self.linear(linear))),
            Joint::Fused(linear, widths) => JointIds::Fused(self.linear(linear), *widths),
        }
    }

    fn linear(&mut self, linear: &LinearSpec) -> LinearIds {
        let weight = self.by_name[&format!("{}.weight", linear.module)];
        let bias = self.by_name.get(&format!("{}.bias", linear.module)).copied();
        let lora = self.lora_ids(linear, true);
        let ordinal = self.linears;
        self.linears += 1;
        let info = &mut self.infos[weight];
        info.packed = self.config.packed_format(&info.name).filter(|_| !info.is_adapter);
        info.in_file = self.config.weights_in_files && !info.is_adapter && !self.config.is_rearranged(&info.name);
        LinearIds { weight, bias, lora, ordinal }
    }

    /// Adds the matrices of a linear layer, if the adapter has any for it; `transposed` says how B is stored.
    fn lora_ids(&mut self, linear: &LinearSpec, transposed: bool) -> Option<LoraIds> {
        let LinearSpec { module, in_features, out_features, .. } = linear;
        let FactorNames { a, b, magnitude, r, scale } = self.lora?.factors_of(self.config, module)?;
        let a = match self.shared.get(&a) {
            Some(id) => *id,
            None => {
                let id = self.push(a.clone(), vec![r, *in_features], true, true);
                self.shared.insert(a, id);
                id
            }
        };
        let b = self.push(b, vec![*out_features, r], transposed, true);
        let magnitude = magnitude.map(|magnitude| self.push(magnitude, vec![*out_features], false, true));
        Some(LoraIds { a, b, magnitude, scale: scale as f32 })
    }
}

/// Whether a matrix is stored as its transpose. Embeddings and the output layer are not, because their rows are picked by
/// token.
fn is_transposed(config: &ModelConfig, spec: &TensorSpec) -> bool {
    let by_row = [Some(config.embedding()), config.condition_embedding(), Some(config.head())];
    // Plain operations read weights as files have them.
    spec.shape.len() == 2 && config.scales.is_none() && !by_row.iter().flatten().any(|table| table.name == spec.name)
}

fn module_of(tensor: &str) -> String {
    tensor.trim_end_matches(".weight").to_owned()
}
