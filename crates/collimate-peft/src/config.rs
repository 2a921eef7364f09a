//! The settings of a LoRA adapter: which modules it changes, and how.

use std::collections::BTreeSet;

use collimate_hf::{AdapterError, HfError, LinearSpec, ModelConfig, TensorSpec, linear_modules};

use crate::by_name::has_name;
use crate::matching::{ByPattern, LayerChoice, ModuleNames, ModulePattern, ends_in};
use crate::names::leaf;
use crate::stacked::Stack;

/// Names of output layers and embeddings.
const OUTER: [&str; 4] = ["lm_head", "embed_tokens", "output", "tok_embeddings"];

/// What matches nothing where all targets are taken away again.
const LEFT_OF_TARGETS: &str = "what exclude_modules, layers_to_transform and modules_to_save leave of it";

/// The modules that an adapter changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoraTargets {
    /// Every linear module of the blocks, but not the output layer. PEFT's `all-linear`.
    AllLinear,
    /// Modules whose full name, or a part of it after a dot up to its end, is listed: `q_proj`, `self_attn.q_proj`.
    Names(Vec<String>),
    /// Modules whose full name the pattern matches.
    Pattern(ModulePattern),
}

impl LoraTargets {
    /// Whether a module is among them. The output layer and the embedding are some that `AllLinear` leaves out.
    pub fn matches(&self, module: &str) -> bool {
        match self {
            Self::AllLinear => !OUTER.contains(&leaf(module)),
            Self::Names(names) => names.iter().any(|name| ends_in(module, name)),
            Self::Pattern(pattern) => pattern.matches(module),
        }
    }
}

/// Rank, scale and targets of a LoRA adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// Rank of the two matrices (`lora_r`).
    pub r: usize,
    /// Numerator of the scale (`lora_alpha`).
    pub alpha: f64,
    /// Probability with which training drops an input of A (`lora_dropout`), in [0, 1).
    pub dropout: f64,
    /// Modules to change (`lora_target_modules`).
    pub targets: LoraTargets,
    /// Parameters that hold the weights of all experts of a block, by their names or what follows a dot in them
    /// (`target_parameters`): `gate_up_proj`, `down_proj`.
    pub parameters: Vec<String>,
    /// Modules to leave as they are though they are targets.
    pub exclude: Option<ModuleNames>,
    /// The layers whose modules are changed; all by default. Modules that are targeted by their full name are changed in
    /// any case, as in PEFT.
    pub layers: Option<LayerChoice>,
    /// Ranks of modules that differ from `r`.
    pub rank_pattern: ByPattern<usize>,
    /// Numerators of modules that differ from `alpha`.
    pub alpha_pattern: ByPattern<f64>,
    /// Whether the scale is alpha/√r instead of alpha/r (rsLoRA, arXiv 2312.03732).
    pub use_rslora: bool,
    /// Whether the length of each row of a changed weight is a parameter of its own (DoRA, arXiv 2402.09353).
    pub use_dora: bool,
    /// Modules that are trained whole, as copies: `lm_head`.
    pub modules_to_save: Vec<String>,
    /// The base model, by the name that the adapter's author gave it.
    pub base_model_name_or_path: Option<String>,
}

impl LoraConfig {
    /// Settings without dropout, scaled by alpha/r.
    pub fn new(r: usize, alpha: f64, targets: LoraTargets) -> Self {
        Self {
            r,
            alpha,
            dropout: 0.0,
            targets,
            parameters: Vec::new(),
            exclude: None,
            layers: None,
            rank_pattern: ByPattern::default(),
            alpha_pattern: ByPattern::default(),
            use_rslora: false,
            use_dora: false,
            modules_to_save: Vec::new(),
            base_model_name_or_path: None,
        }
    }

    /// The factor s of `s · B A` where no pattern says otherwise: alpha/r, or alpha/√r with `use_rslora`.
    pub fn scale(&self) -> f64 {
        self.scale_from(self.r, self.alpha)
    }

    /// The factor s of a module.
    pub fn scale_of(&self, module: &str) -> f64 {
        self.scale_from(self.rank_of(module), self.alpha_pattern.get(module).unwrap_or(self.alpha))
    }

    /// The rank of a module's matrices.
    pub fn rank_of(&self, module: &str) -> usize {
        self.rank_pattern.get(module).unwrap_or(self.r)
    }

    fn scale_from(&self, r: usize, alpha: f64) -> f64 {
        let r = r as f64;
        alpha / if self.use_rslora { r.sqrt() } else { r }
    }

    /// The largest rank of any module.
    pub fn largest_rank(&self) -> usize {
        self.rank_pattern.0.iter().map(|(_, r)| *r).fold(self.r, usize::max)
    }

    /// Whether a module gets matrices: `model.layers.0.self_attn.q_proj`.
    pub fn matches(&self, module: &str) -> bool {
        if self.exclude.as_ref().is_some_and(|excluded| excluded.matches(module)) || self.is_saved(module) {
            return false;
        }
        let is_whole_name = matches!(&self.targets, LoraTargets::Names(names) if names.iter().any(|n| n == module));
        let by_layer = !is_whole_name && !matches!(self.targets, LoraTargets::Pattern(_));
        self.targets.matches(module) && self.layers.as_ref().is_none_or(|layers| !by_layer || layers.contains(module))
    }

    /// Whether every pattern that says which modules are changed is understood.
    pub(crate) fn is_understood(&self) -> bool {
        let excluded = match &self.exclude {
            Some(ModuleNames::Pattern(pattern)) => pattern.is_understood(),
            _ => true,
        };
        let targeted = !matches!(&self.targets, LoraTargets::Pattern(pattern) if !pattern.is_understood());
        let mut before = self.layers.iter().flat_map(|layers| &layers.before);
        excluded && targeted && before.all(ModulePattern::is_understood)
    }

    /// Whether a module, or one that it is a part of, is trained whole. PEFT compares ends of names, without a dot.
    pub(crate) fn is_saved(&self, module: &str) -> bool {
        let ends = module.match_indices('.').map(|(at, _)| at).chain([module.len()]);
        let mut wholes = ends.map(|end| &module[..end]);
        wholes.any(|whole| self.modules_to_save.iter().any(|name| whole.ends_with(name.as_str())))
    }

    /// The modules of a model that get matrices, layer by layer, then the output layer; not the embedding.
    ///
    /// # Errors
    /// [`AdapterError`] if a target, an exception, a pattern or a module to save matches nothing, or a combination is not
    /// supported.
    pub fn target_modules(&self, model: &ModelConfig) -> Result<Vec<LinearSpec>, HfError> {
        let all = adaptable_modules(model);
        let named: Vec<&LinearSpec> = all.iter().filter(|linear| has_name(model, &linear.module)).collect();
        let known = || named.iter().map(|linear| leaf(&linear.module).to_owned()).collect::<BTreeSet<_>>();
        let unmatched = |target: &str| {
            let known = known().into_iter().filter(|name| !OUTER.contains(&name.as_str())).collect();
            AdapterError::UnknownTarget { target: target.to_owned(), known }
        };
        match &self.targets {
            LoraTargets::AllLinear => {}
            LoraTargets::Names(names) => {
                let missing = names.iter().find(|name| !named.iter().any(|linear| ends_in(&linear.module, name)));
                let none = String::new();
                let is_empty = names.is_empty() && self.parameters.is_empty();
                if let Some(target) = missing.or_else(|| is_empty.then_some(&none)) {
                    return Err(unmatched(target).into());
                }
            }
            LoraTargets::Pattern(pattern) => {
                if !named.iter().any(|linear| pattern.matches(&linear.module)) {
                    return Err(unmatched(pattern.text()).into());
                }
            }
        }
        self.check_other_names(model, &all)?;
        let embedding = embedding_module(model);
        let is_target =
            |linear: &LinearSpec| linear.module != embedding && self.factors_of(model, &linear.module).is_some();
        Ok(all.into_iter().filter(is_target).collect())
    }

    /// Whether the embedding gets matrices.
    pub fn targets_embedding(&self, model: &ModelConfig) -> bool {
        self.matches(&embedding_module(model))
    }

    /// Checks `target_parameters` against a model, whose stacked parameters are `stacks`.
    fn check_parameters(&self, all: &[LinearSpec], stacks: &BTreeSet<String>) -> Result<(), HfError> {
        let is_parameter = |name: &str| {
            let weights = all.iter().map(|linear| format!("{}.weight", linear.module));
            stacks.iter().cloned().chain(weights).any(|parameter| ends_in(&parameter, name))
        };
        match self.parameters.iter().find(|name| !is_parameter(name)) {
            Some(name) => Err(AdapterError::MatchesNothing { setting: "target_parameters", name: name.clone() }.into()),
            None => Ok(()),
        }
    }

    /// Whether layers of a vision tower get matrices in a way that they are not computed.
    fn is_beyond_tower(&self, model: &ModelConfig, targeted: &[&LinearSpec]) -> bool {
        let in_tower = |linear: &&LinearSpec| model.vision.as_ref().is_some_and(|own| own.is_inside(&linear.module));
        (self.use_dora || self.dropout > 0.0) && targeted.iter().any(in_tower)
    }

    /// Checks every setting beside the targets against a model.
    fn check_other_names(&self, model: &ModelConfig, all: &[LinearSpec]) -> Result<(), HfError> {
        let nothing = |setting: &'static str, name: &str| {
            Err(AdapterError::MatchesNothing { setting, name: name.to_owned() }.into())
        };
        let targeted: Vec<_> = all.iter().filter(|linear| self.factors_of(model, &linear.module).is_some()).collect();
        let stacks: BTreeSet<String> =
            all.iter().filter_map(|linear| Some(Stack::of(model, &linear.module)?.parameter)).collect();
        self.check_parameters(all, &stacks)?;
        // Beside a text model there is more that may be excluded.
        if let Some(excluded) = &self.exclude
            && model.wrapper.is_none()
            && !all.iter().any(|linear| excluded.matches(&linear.module))
        {
            return nothing("exclude_modules", &excluded.to_string());
        }
        if let Some(layer) =
            self.layers.iter().flat_map(|choice| &choice.layers).find(|n| **n >= model.num_hidden_layers)
        {
            return nothing("layers_to_transform", &layer.to_string());
        }
        if targeted.is_empty() {
            return nothing("target_modules", LEFT_OF_TARGETS);
        }
        let ranks = self.rank_pattern.0.iter().map(|(pattern, _)| ("rank_pattern", pattern));
        let alphas = self.alpha_pattern.0.iter().map(|(pattern, _)| ("alpha_pattern", pattern));
        for (setting, pattern) in ranks.chain(alphas) {
            let is_stack = stacks.iter().any(|stack| self.targets_parameter(stack) && pattern.matches(stack));
            if !is_stack && !targeted.iter().any(|linear| pattern.matches(&linear.module)) {
                return nothing(setting, pattern.text());
            }
        }
        let tensors = all_tensors(model);
        for name in &self.modules_to_save {
            let one = Self { modules_to_save: vec![name.clone()], ..self.clone() };
            if !tensors.iter().any(|spec| one.is_saved(module_of(&spec.name))) {
                return nothing("modules_to_save", name);
            }
        }
        let refused = |what: &'static str| Err(AdapterError::NotTogether { what }.into());
        let head = self.matches(module_of(&model.head().name));
        if self.layers.is_some() && matches!(self.targets, LoraTargets::Pattern(_)) {
            return refused("layers_to_transform and a pattern as target_modules");
        }
        if model.conditions > 0 && self.targets_embedding(model) {
            return refused("tok_embeddings among the target modules and an embedding of conditions beside it");
        }
        match self.use_dora {
            _ if self.is_beyond_tower(model, &targeted) => {
                refused("use_dora or a lora_dropout, and layers of the tower")
            }
            true if !self.parameters.is_empty() => refused("use_dora and target_parameters"),
            true if self.targets_embedding(model) => refused("use_dora and embed_tokens among the target modules"),
            true if head && self.dropout > 0.0 => {
                refused("use_dora, lm_head among the target modules and a lora_dropout above 0")
            }
            _ => Ok(()),
        }
    }
}

/// The modules that can get matrices: the linear layers of the blocks, the output layer, and the embedding as a layer
/// from V to D.
pub(crate) fn adaptable_modules(model: &ModelConfig) -> Vec<LinearSpec> {
    let (vocab, width) = (model.vocab_size, model.hidden_size);
    let outer = |module, in_features, out_features| LinearSpec { module, in_features, out_features, bias: false };
    let outer =
        [outer(module_of(&model.head().name).to_owned(), width, vocab), outer(embedding_module(model), vocab, width)];
    linear_modules(model).into_iter().chain(outer).collect()
}

/// The embedding's module.
pub(crate) fn embedding_module(model: &ModelConfig) -> String {
    module_of(&model.embedding().name).to_owned()
}

/// Every tensor of a model; the output layer too if it is tied to the embedding.
pub(crate) fn all_tensors(model: &ModelConfig) -> Vec<TensorSpec> {
    let mut specs = model.tensors();
    if model.output_layer().is_none() {
        specs.push(model.head());
    }
    specs
}

/// The module of a tensor.
pub(crate) fn module_of(tensor: &str) -> &str {
    tensor.rsplit_once('.').map_or(tensor, |(module, _)| module)
}
