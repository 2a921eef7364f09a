//! Builds the table of a model's parameters.

use std::collections::HashMap;

use collimate_hf::{
    AdapterPart, Block, FeedForward, Gated, HalfNorms, Joint, LinearSpec, LoraConfig, ModelConfig, TensorSpec,
};

use super::{
    ExpertIds, FeedForwardIds, GatedIds, JointIds, LayerIds, LinearIds, LoraIds, ModelIds, NormIds, ParameterInfo,
};

/// The table so far.
pub(super) struct Builder<'a> {
    pub(super) infos: Vec<ParameterInfo>,
    by_name: HashMap<String, usize>,
    /// Number of linear layers so far in this pass over the model.
    linears: usize,
    config: &'a ModelConfig,
    lora: Option<&'a LoraConfig>,
}

impl<'a> Builder<'a> {
    /// The table of the base model's parameters.
    pub(super) fn new(config: &'a ModelConfig) -> Self {
        let mut builder = Self { infos: Vec::new(), by_name: HashMap::new(), linears: 0, config, lora: None };
        for spec in config.tensors() {
            let transposed = is_transposed(config, &spec);
            let (name, shape) = (spec.name.clone(), spec.shape);
            let id = builder.push(name, shape, transposed, false);
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
        let per_token = config.experts.map_or(0, |experts| experts.per_token);
        let layers = (0..config.num_hidden_layers).map(|i| self.layer(&config.block(i), per_token)).collect();
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
            embedding_lora,
            layers,
            final_norm: self.by_name[&config.final_norm().name],
            head,
        }
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
            packed: None,
            in_file: false,
        });
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
                    let info = &mut self.infos[router.weight];
                    (info.is_router, info.packed, info.in_file) = (true, None, false);
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
        let weight = self.by_name[&format!("{}.weight", linear.module)];
        let bias = self.by_name.get(&format!("{}.bias", linear.module)).copied();
        let lora = self.lora_ids(linear, true);
        let ordinal = self.linears;
        self.linears += 1;
        let info = &mut self.infos[weight];
        info.packed = self.config.packed_format(&info.name).filter(|_| !info.is_adapter);
        info.in_file = self.config.weights_in_files && !info.is_adapter;
        LinearIds { weight, bias, lora, ordinal }
    }

    /// Adds the matrices of a linear layer, if the adapter has any for it; `transposed` says how B is stored.
    fn lora_ids(&mut self, linear: &LinearSpec, transposed: bool) -> Option<LoraIds> {
        let LinearSpec { module, in_features, out_features, .. } = linear;
        let lora = self.lora.filter(|lora| lora.matches(module))?;
        let r = lora.rank_of(module);
        let a = self.push(AdapterPart::A.name(module), vec![r, *in_features], true, true);
        let b = self.push(AdapterPart::B.name(module), vec![*out_features, r], transposed, true);
        let magnitude = AdapterPart::Magnitude.name(module);
        let magnitude = lora.use_dora.then(|| self.push(magnitude, vec![*out_features], false, true));
        Some(LoraIds { a, b, magnitude, scale: lora.scale_of(module) as f32 })
    }
}

/// Whether a matrix is stored as its transpose. The embedding and the output layer are not, because their rows are picked by
/// token.
fn is_transposed(config: &ModelConfig, spec: &TensorSpec) -> bool {
    spec.shape.len() == 2 && spec.name != config.embedding().name && spec.name != config.head().name
}

fn module_of(tensor: &str) -> String {
    tensor.trim_end_matches(".weight").to_owned()
}
