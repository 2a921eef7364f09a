//! The memory that training needs, computed from the model's shapes.

mod first_half;
mod graph;

use collimate_backend::{ComputeDtype, FusedOps, WeightCosts};
use collimate_hf::{ModelConfig, NormPlacement, RouterScores};
use collimate_peft::LoraConfig;

use self::first_half::FirstHalf;
use crate::causal_lm::CausalLm;
use crate::parameter_index::{ParameterIndex, ParameterInfo, Trainable};

/// Bytes per float32, the dtype of gradients, moments, and the intermediates of norms and gates.
const FLOAT: u64 = 4;

/// Parameter counts of a model, in scalars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParameterCounts {
    /// In the base model; a tied embedding counts once.
    pub base: u64,
    /// In the adapter.
    pub adapter: u64,
    /// In trained parameters.
    pub trained: u64,
}

impl ParameterCounts {
    /// Counts without loading the model.
    pub fn new(config: &ModelConfig, lora: Option<&LoraConfig>, trainable: Trainable) -> Self {
        let infos = ParameterIndex::new(config, lora).infos;
        let count = |is_adapter: bool| infos.iter().filter(|info| info.is_adapter == is_adapter).map(size).sum();
        let (base, adapter) = (count(false), count(true));
        let trained = infos.iter().filter(|info| trainable.includes(info)).map(size).sum();
        Self { base, adapter, trained }
    }
}

/// The memory that training needs, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryCosts {
    /// Parameters, including the float32 masters of trained ones that passes read in another dtype.
    pub weights: u64,
    /// Weights that stay in their files, of which one at a time is in memory.
    pub in_files: u64,
    /// `weights`, the gradient and AdamW moments of trained parameters, weights that an adapter makes a pass compute, and
    /// `unpacking`.
    pub resident: u64,
    /// What a product takes at most to unpack or rearrange a weight: one at a time is.
    pub unpacking: u64,
    /// Per token of a pack: the input of every block, and the intermediates of the block being computed.
    pub per_token: u64,
    /// Per token of an image, beside that: its pixels, and the intermediates of the vision tower.
    pub per_image_token: u64,
    /// Per token of a pack and block whose activations are kept.
    pub per_kept_block: u64,
    /// Per token of a pack: the input of every block, a part of `per_token`.
    pub per_input: u64,
    /// Per token of a pack that waits for its backward pass: `per_input`, and what the output layer keeps.
    pub per_waiting: u64,
    /// Whether something of the vision tower is trained.
    pub trains_tower: bool,
    /// Number of blocks.
    pub num_blocks: usize,
    /// Whether a trained embedding is the output layer too. Packs that go back together would add to its gradient in another
    /// order than one by one.
    pub shares_embedding: bool,
}

impl MemoryCosts {
    /// Computes the costs without loading the model, on a backend where weights take so much beyond their numbers.
    pub fn new(
        config: &ModelConfig,
        lora: Option<&LoraConfig>,
        trainable: Trainable,
        dtype: ComputeDtype,
        weights: WeightCosts,
    ) -> Self {
        let infos = ParameterIndex::new(config, lora).infos;
        let is_trained = |info: &ParameterInfo| trainable.includes(info);
        Self::from_parameters(config, lora, dtype, weights, infos.iter().map(|info| (info, is_trained(info))))
    }

    /// Bytes per token of a pack that waits for its backward pass while the inputs of its blocks are in the memory of the host
    /// or in a file.
    pub fn per_waiting_elsewhere(&self) -> u64 {
        self.per_waiting.saturating_sub(self.per_input)
    }

    /// Bytes per token of the one input of a block that is on its way to where it waits, or back.
    pub fn per_moved_input(&self) -> u64 {
        self.per_input / self.num_blocks.max(1) as u64
    }

    /// From the parameters, and whether each is trained.
    fn from_parameters<'a>(
        config: &ModelConfig,
        lora: Option<&LoraConfig>,
        dtype: ComputeDtype,
        costs: WeightCosts,
        parameters: impl Iterator<Item = (&'a ParameterInfo, bool)>,
    ) -> Self {
        let (mut weights, mut in_files, mut largest_in_file, mut trained, mut unpacking) = (0, 0, 0, 0, 0);
        let (mut shares_embedding, mut trains_tower) = (false, false);
        let is_tower = |name: &str| config.vision.as_ref().is_some_and(|vision| vision.is_inside(name));
        let embedding = config.embedding().name;
        for (info, is_trained) in parameters {
            shares_embedding |= is_trained && config.output_layer().is_none() && info.name == embedding;
            trains_tower |= is_trained && is_tower(&info.name);
            let count = size(info);
            let has_master = is_trained && info.dtype(dtype) != ComputeDtype::Float32;
            let mut bytes = info.num_bytes(dtype);
            if info.in_file || info.packed.is_some() {
                unpacking = count.saturating_mul((costs.unpacking)(info.packed, dtype)).max(unpacking);
            } else if let Some(prepared) = info.prepared_bytes(costs, dtype) {
                bytes = prepared.held;
                unpacking = prepared.rearranged.max(unpacking);
            }
            if info.in_file {
                (in_files, largest_in_file) = (in_files + bytes, largest_in_file.max(bytes));
                continue;
            }
            weights += bytes + if has_master { FLOAT * count } else { 0 };
            trained += if is_trained { count } else { 0 };
        }
        let Elements { kept, working } = Elements::per_token(config, lora);
        let tower = config.vision.as_ref().map_or(0, |vision| vision.tower.numbers_per_token(trains_tower));
        let width = config.hidden_size as u64;
        let stream = config.num_hidden_layers as u64 * width;
        let per_input = dtype.num_bytes() * stream;
        // The last block's output, the rows of the output layer with their gradients, and the rotations: of layers with a
        // window and without, of queries and keys, where these are two.
        let rotations = (1 + u64::from(config.window_rope.is_some())) * (1 + u64::from(config.query_growth.is_some()));
        let rotation = rotations * config.rotary_dim as u64;
        let per_waiting = per_input + dtype.num_bytes() * width + FLOAT * (2 * width + rotation);
        let costs = Self {
            weights,
            in_files,
            resident: weights
                + largest_in_file
                + unpacking
                + FLOAT * 3 * trained
                + adapted_weights(config, lora, dtype),
            unpacking,
            per_token: dtype.num_bytes() * (stream + kept) + FLOAT * working,
            per_image_token: FLOAT * tower,
            per_kept_block: dtype.num_bytes() * kept,
            per_input,
            per_waiting,
            trains_tower,
            num_blocks: config.num_hidden_layers,
            shares_embedding,
        };
        costs.one_by_one(config, trained > 0)
    }

    /// The costs where pictures go through a graph one by one, which gives a gradient for every parameter.
    fn one_by_one(self, config: &ModelConfig, is_trained: bool) -> Self {
        let Some(scales) = &config.scales else { return self };
        let graph = FLOAT * graph::numbers(config, scales, is_trained);
        let resident = self.resident + graph + if is_trained { self.weights } else { 0 };
        Self { resident, per_token: FLOAT, per_kept_block: 0, per_input: FLOAT, per_waiting: FLOAT, ..self }
    }
}

/// Bytes of the weights that an adapter makes a pass compute: an output layer with its matrices and their gradient, and the
/// sum whose rows DoRA measures.
fn adapted_weights(config: &ModelConfig, lora: Option<&LoraConfig>, dtype: ComputeDtype) -> u64 {
    let Some(lora) = lora else { return 0 };
    let module = config.head().name;
    let module = module.trim_end_matches(".weight");
    let head = match lora.matches(module) {
        true => {
            let size = (config.vocab_size * (config.hidden_size + lora.rank_of(module))) as u64;
            size * (dtype.num_bytes() + FLOAT)
        }
        false => 0,
    };
    let targets = lora.target_modules(config).unwrap_or_default();
    let largest = targets.iter().map(|linear| (linear.in_features * linear.out_features) as u64).max().unwrap_or(0);
    head + if lora.use_dora { 3 * FLOAT * largest } else { 0 }
}

/// Numbers of elements per token of a pack.
struct Elements {
    /// In a block's activations.
    kept: u64,
    /// In the temporaries of the block being computed. They count as float32 in any dtype: what a temporary in bfloat16 takes
    /// less is what flex needs to widen the factors of one product and to hold its sums.
    working: u64,
}

impl Elements {
    fn per_token(config: &ModelConfig, lora: Option<&LoraConfig>) -> Self {
        let width = config.hidden_size as u64;
        let heads = (config.num_attention_heads * config.head_dim) as u64;
        let kv_heads = (config.num_key_value_heads * config.head_dim) as u64;
        let output_norms = if config.norm_placement == NormPlacement::Before { 0 } else { 2 * width };
        let SecondHalf { gates, inner, router, linears, gathered } = SecondHalf::largest(config);
        let first = FirstHalf::largest(config);
        let linears = linears + first.more_linears;
        let ranks = lora.map_or(0, |lora| linears * lora.largest_rank() as u64);
        // The stream between the halves, gate and up, and outputs before their norms.
        let kept = first.kept + width + output_norms + gates + router + ranks;
        // A fused product coexists with its parts.
        let fused = if config.fused_projections { (heads + 2 * kv_heads).max(2 * inner) } else { 0 };
        // Half a block's contribution, before and after scaling.
        let scaled = if config.residual_scale.is_some() { 2 * width } else { 0 };
        // Both factors of a clamped gate, and their gradients; attention's output before and after its sinks have their share.
        let clamped = if config.clamped_gate.is_some() { 4 * inner } else { 0 };
        let sinks = if config.attention_sinks { 2 * heads } else { 0 };
        // The gated product and its gradient, the gradients of queries, keys, values and of the stream; and in the output
        // layer three copies of the rows that predict a token.
        let working =
            2 * inner + first.working + 9 * width + output_norms + fused + gathered + scaled + clamped + sinks;
        Self { kept, working }
    }
}

/// Numbers of elements per token of a block's feed-forward layer.
#[derive(Clone, Copy)]
struct SecondHalf {
    /// Activations of gate and up.
    gates: u64,
    /// Inner width of the layer, or of one expert.
    inner: u64,
    /// Probabilities and weights of experts.
    router: u64,
    /// Linear layers of the whole block that a token goes through.
    linears: u64,
    /// The rows of an expert, of which a single one may get every token.
    gathered: u64,
}

impl SecondHalf {
    /// The larger of each, where some blocks have experts and others have none.
    fn largest(config: &ModelConfig) -> Self {
        let inner = config.intermediate_size as u64;
        let dense = Self { gates: 2 * inner, inner, router: 0, linears: 7, gathered: 0 };
        let Some(experts) = config.experts else { return dense };
        let (picked, inner) = (experts.per_token as u64, experts.intermediate_size as u64);
        let shared = experts.shared.map_or(0, |shared| shared.intermediate_size as u64);
        // Sigmoids are kept beside probabilities, a row's share of a shared layer's output beside its gates.
        let scores = if experts.scores == RouterScores::Sigmoid { 3 } else { 2 };
        let sparse = Self {
            gates: picked * 2 * inner + 2 * shared,
            inner: inner.max(shared),
            router: scores * experts.count as u64 + picked + u64::from(experts.shared.is_some()),
            linears: 5 + 3 * picked + experts.shared.map_or(0, |shared| 3 + u64::from(shared.is_gated)),
            gathered: 2 * inner + 4 * config.hidden_size as u64,
        };
        if !config.expert_layers.contains(&false) {
            return sparse;
        }
        Self {
            gates: dense.gates.max(sparse.gates),
            inner: dense.inner.max(sparse.inner),
            linears: dense.linears.max(sparse.linears),
            ..sparse
        }
    }
}

impl<B: FusedOps> CausalLm<B> {
    /// Memory needed to train this model.
    pub fn memory_costs(&self) -> MemoryCosts {
        let parameters = self.index.infos.iter().zip(self.trainable.iter().copied());
        MemoryCosts::from_parameters(&self.config, self.lora(), self.dtype, WeightCosts::of::<B>(), parameters)
    }
}

fn size(info: &ParameterInfo) -> u64 {
    info.file_shape.iter().product::<usize>() as u64
}

#[cfg(test)]
mod tests;
