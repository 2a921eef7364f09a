//! The memory that training needs, computed from the model's shapes.

use collimate_backend::{ComputeDtype, FusedOps};
use collimate_hf::{LoraConfig, ModelConfig, NormPlacement, QkNorm};

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
        let trained = match trainable {
            Trainable::Nothing => 0,
            Trainable::Base => base,
            Trainable::Adapter => adapter,
        };
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
    /// `weights`, the gradient and AdamW moments of trained parameters, and weights that an adapter makes a pass compute.
    pub resident: u64,
    /// Per token of a pack: the input of every block, and the intermediates of the block being computed.
    pub per_token: u64,
    /// Per token of a pack and block whose activations are kept.
    pub per_kept_block: u64,
    /// Per token of a pack: the input of every block, a part of `per_token`.
    pub per_input: u64,
    /// Per token of a pack that waits for its backward pass: `per_input`, and what the output layer keeps.
    pub per_waiting: u64,
    /// Number of blocks.
    pub num_blocks: usize,
    /// Whether a trained embedding is the output layer too. Packs that go back together would add to its gradient in another
    /// order than one by one.
    pub shares_embedding: bool,
}

impl MemoryCosts {
    /// Computes the costs without loading the model.
    pub fn new(config: &ModelConfig, lora: Option<&LoraConfig>, trainable: Trainable, dtype: ComputeDtype) -> Self {
        let infos = ParameterIndex::new(config, lora).infos;
        let is_trained = |info: &ParameterInfo| trainable.includes(info);
        Self::from_parameters(config, lora, dtype, infos.iter().map(|info| (info, is_trained(info))))
    }

    /// From the parameters, and whether each is trained.
    fn from_parameters<'a>(
        config: &ModelConfig,
        lora: Option<&LoraConfig>,
        dtype: ComputeDtype,
        parameters: impl Iterator<Item = (&'a ParameterInfo, bool)>,
    ) -> Self {
        let (mut weights, mut in_files, mut largest_in_file, mut trained) = (0, 0, 0, 0);
        let mut shares_embedding = false;
        let embedding = config.embedding().name;
        for (info, is_trained) in parameters {
            shares_embedding |= is_trained && config.output_layer().is_none() && info.name == embedding;
            let count = size(info);
            let has_master = is_trained && info.dtype(dtype) != ComputeDtype::Float32;
            let bytes = info.num_bytes(dtype);
            if info.in_file {
                (in_files, largest_in_file) = (in_files + bytes, largest_in_file.max(bytes));
                continue;
            }
            weights += bytes + if has_master { FLOAT * count } else { 0 };
            trained += if is_trained { count } else { 0 };
        }
        let Elements { kept, working } = Elements::per_token(config, lora);
        let width = config.hidden_size as u64;
        let stream = config.num_hidden_layers as u64 * width;
        let per_input = dtype.num_bytes() * stream;
        // The last block's output, the rows of the output layer with their gradients, and the rotation.
        let per_waiting = per_input + dtype.num_bytes() * width + FLOAT * (2 * width + config.rotary_dim as u64);
        Self {
            weights,
            in_files,
            resident: weights + largest_in_file + FLOAT * 3 * trained + adapted_weights(config, lora, dtype),
            per_token: dtype.num_bytes() * (stream + kept) + FLOAT * working,
            per_kept_block: dtype.num_bytes() * kept,
            per_input,
            per_waiting,
            num_blocks: config.num_hidden_layers,
            shares_embedding,
        }
    }
}

/// Bytes of the weights that an adapter makes a pass compute: an output layer with its matrices and their gradient, and the
/// sum whose rows DoRA measures.
fn adapted_weights(config: &ModelConfig, lora: Option<&LoraConfig>, dtype: ComputeDtype) -> u64 {
    let Some(lora) = lora else { return 0 };
    let head = match lora.matches("lm_head") {
        true => {
            let size = (config.vocab_size * (config.hidden_size + lora.rank_of("lm_head"))) as u64;
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
    /// In the temporaries of the block being computed.
    working: u64,
}

impl Elements {
    fn per_token(config: &ModelConfig, lora: Option<&LoraConfig>) -> Self {
        let width = config.hidden_size as u64;
        let inner = config.intermediate_size as u64;
        let heads = (config.num_attention_heads * config.head_dim) as u64;
        let kv_heads = (config.num_key_value_heads * config.head_dim) as u64;
        let head_norms = if config.qk_norm == QkNorm::None { 0 } else { heads + kv_heads };
        let output_norms = if config.norm_placement == NormPlacement::Before { 0 } else { 2 * width };
        let (gates, router, linears) = match config.experts {
            None => (2 * inner, 0, 7),
            // The activations of a token's experts; probabilities and weights of all experts.
            Some(experts) => {
                let picked = experts.per_token as u64;
                (picked * 2 * inner, 2 * experts.count as u64 + picked, 5 + 3 * picked)
            }
        };
        let ranks = lora.map_or(0, |lora| linears * lora.largest_rank() as u64);
        // Queries and attention's output, keys and values, the stream between the halves, gate and up, and outputs
        // before their norms.
        let kept = 2 * heads
            + 2 * kv_heads
            + head_norms
            + width
            + output_norms
            + gates
            + router
            + ranks
            + config.num_attention_heads as u64;
        // A fused product coexists with its parts; a single expert may get every token.
        let fused = if config.fused_projections { (heads + 2 * kv_heads).max(2 * inner) } else { 0 };
        let gathered = if config.experts.is_some() { 2 * inner + 4 * width } else { 0 };
        // Half a block's contribution, before and after scaling.
        let scaled = if config.residual_scale.is_some() { 2 * width } else { 0 };
        // The gated product and its gradient, the gradients of queries, keys, values and of the stream; and in the output
        // layer three copies of the rows that predict a token.
        let working = 2 * inner + 2 * heads + 2 * kv_heads + 9 * width + output_norms + fused + gathered + scaled;
        Self { kept, working }
    }
}

impl<B: FusedOps> CausalLm<B> {
    /// Memory needed to train this model.
    pub fn memory_costs(&self) -> MemoryCosts {
        let parameters = self.index.infos.iter().zip(self.trainable.iter().copied());
        MemoryCosts::from_parameters(&self.config, self.lora(), self.dtype, parameters)
    }
}

fn size(info: &ParameterInfo) -> u64 {
    info.file_shape.iter().product::<usize>() as u64
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use burn_flex::{Flex, FlexDevice};
    use collimate_hf::{HostTensor, LoraTargets};
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::causal_lm::Placement;

    const WIDTH: u64 = 16;
    const INNER: u64 = 24;
    const QUERIES: u64 = 16;
    const KEYS: u64 = 8;

    fn costs(fields: Value) -> MemoryCosts {
        let mut config = json!({
            "vocab_size": 32, "hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": 2, "head_dim": 4,
            "num_attention_heads": 4, "num_key_value_heads": 2,
        });
        fields.as_object().expect("fields").iter().for_each(|(key, field)| config[key] = field.clone());
        let config = ModelConfig::from_json(Path::new("config.json"), config).expect("a sound config");
        let zeros = |info: &crate::ParameterInfo| Ok(HostTensor::zeros(info.file_shape.clone()));
        let placement = Placement { device: FlexDevice, dtype: ComputeDtype::Float32 };
        CausalLm::<Flex>::new(config, None, Trainable::Base, placement, zeros).expect("a model").memory_costs()
    }

    #[test]
    fn a_block_keeps_more_with_more_norms_or_more_experts_per_token() {
        let kept = |fields: Value| costs(fields).per_kept_block / FLOAT;
        let llama = kept(json!({ "model_type": "llama" }));
        assert_eq!(llama, 2 * QUERIES + 2 * KEYS + WIDTH + 2 * INNER + 4);
        assert_eq!(kept(json!({ "model_type": "phi3" })), llama);
        assert_eq!(kept(json!({ "model_type": "gemma2" })), llama + 2 * WIDTH, "two outputs before their norms");
        let olmo2 = kept(json!({ "model_type": "olmo2" }));
        assert_eq!(olmo2, llama + 2 * WIDTH + QUERIES + KEYS, "and queries and keys before theirs");
        let mixtral = kept(json!({ "model_type": "mixtral", "num_local_experts": 5, "num_experts_per_tok": 3 }));
        assert_eq!(mixtral, llama + 2 * 2 * INNER + 2 * 5 + 3, "gate and up of three experts, and the router's choice");
    }

    #[test]
    fn all_experts_are_resident_whether_or_not_a_token_picks_them() {
        let resident = |experts: u64| {
            let fields = json!({ "model_type": "mixtral", "num_local_experts": experts, "num_experts_per_tok": 1 });
            costs(fields).resident
        };
        // Three matrices and a row of the router for each of two layers; parameter, gradient and two moments.
        assert_eq!(resident(5) - resident(4), 4 * FLOAT * 2 * (3 * INNER * WIDTH + WIDTH));
    }

    fn config(qk_norm: bool) -> ModelConfig {
        let model_type = if qk_norm { "qwen3" } else { "llama" };
        let value = json!({
            "model_type": model_type, "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "max_position_embeddings": 64,
            "tie_word_embeddings": false,
        });
        ModelConfig::from_json(Path::new("config.json"), value).expect("a configuration")
    }

    #[rstest]
    fn costs_are_the_same_with_and_without_loading_the_model(
        #[values(Trainable::Nothing, Trainable::Base, Trainable::Adapter)] trainable: Trainable,
        #[values(false, true)] qk_norm: bool,
        #[values(ComputeDtype::Float32, ComputeDtype::Bfloat16)] dtype: ComputeDtype,
    ) {
        let lora = (trainable == Trainable::Adapter).then(|| LoraConfig::new(2, 4.0, LoraTargets::AllLinear));
        let config = config(qk_norm);
        let zeros = |info: &crate::ParameterInfo| {
            let len = info.file_shape.iter().product();
            Ok(HostTensor::new(info.file_shape.clone(), vec![0.0; len]))
        };
        let placement = Placement { device: FlexDevice, dtype };
        let model = CausalLm::<Flex>::new(config.clone(), lora.clone(), trainable, placement, zeros);
        let loaded = model.expect("a model").memory_costs();
        assert_eq!(MemoryCosts::new(&config, lora.as_ref(), trainable, dtype), loaded);
    }

    #[test]
    fn bfloat16_halves_weights_and_adds_masters_of_trained_ones() {
        let (config, bfloat16) = (config(false), ComputeDtype::Bfloat16);
        let lora = LoraConfig::new(2, 4.0, LoraTargets::AllLinear);
        let costs = |lora: Option<&LoraConfig>, trainable| MemoryCosts::new(&config, lora, trainable, bfloat16);
        let vectors = (2 * 3 + 1) * 16;
        let matrices = ParameterCounts::new(&config, None, Trainable::Base).base - vectors;
        assert_eq!(costs(None, Trainable::Nothing).resident, 2 * matrices + 4 * vectors);
        let full = costs(None, Trainable::Base);
        assert_eq!(full.weights, (2 + 4) * matrices + 4 * vectors);
        assert_eq!(full.resident - full.weights, 3 * 4 * (matrices + vectors), "gradients and moments in float32");
        // Both factors of four linear layers of attention and three of the rest, in each of three blocks.
        let adapter = 3 * 2 * (2 * (16 + 16) + 2 * (16 + 8) + 3 * (16 + 24));
        let with_adapter = costs(Some(&lora), Trainable::Adapter);
        assert_eq!(with_adapter.resident, 2 * matrices + 4 * vectors + 4 * 4 * adapter);
        let in_float32 = MemoryCosts::new(&config, None, Trainable::Base, ComputeDtype::Float32);
        assert_eq!(2 * full.per_kept_block, in_float32.per_kept_block);
    }

    #[test]
    fn parameters_are_counted_without_loading_the_model() {
        let lora = LoraConfig::new(2, 4.0, LoraTargets::Names(vec!["q_proj".to_owned()]));
        let counts = ParameterCounts::new(&config(false), Some(&lora), Trainable::Adapter);
        // Two embeddings; queries and output, keys and values, gate, up and down, two norms; the last norm.
        let block = 2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 24 + 2 * 16;
        assert_eq!(counts.base, 2 * 50 * 16 + 3 * block + 16);
        assert_eq!((counts.adapter, counts.trained), (3 * 2 * (16 + 16), 3 * 2 * (16 + 16)));
    }
}
