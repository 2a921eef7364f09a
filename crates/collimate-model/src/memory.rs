//! How much memory a pass needs, from the shapes of the model.

use collimate_backend::{ComputeDtype, FusedOps};
use collimate_hf::{LoraConfig, ModelConfig, NormPlacement, QkNorm};

use crate::causal_lm::{CausalLm, Trainable};
use crate::layout::{Layout, ParameterInfo};

/// Bytes of one float32 number, in which gradients, moments and what a norm or a gate works on are.
const FLOAT: u64 = 4;

/// How many numbers a model's parameters are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParameterCounts {
    /// Those of the base model, a tied embedding counted once.
    pub base: u64,
    /// Those of the adapter.
    pub adapter: u64,
    /// Those that training changes.
    pub trained: u64,
}

impl ParameterCounts {
    /// Of a model that is not loaded.
    pub fn of(config: &ModelConfig, lora: Option<&LoraConfig>, trainable: Trainable) -> Self {
        let infos = Layout::new(config, lora).infos;
        let count = |of_adapter: bool| infos.iter().filter(|info| info.is_adapter == of_adapter).map(size).sum();
        let (base, adapter) = (count(false), count(true));
        let trained = match trainable {
            Trainable::Nothing => 0,
            Trainable::Base => base,
            Trainable::Adapter => adapter,
        };
        Self { base, adapter, trained }
    }
}

/// What training holds, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryCosts {
    /// Parameters, with float32 values beside them where those that are trained are read in another type.
    pub weights: u64,
    /// Parameters, and for those that are trained the gradient and AdamW's two moments.
    pub resident: u64,
    /// A token of a pack whatever is kept: the input of every block, and what the block at work needs.
    pub per_token: u64,
    /// A token of a pack more for every block that keeps what its way back reads.
    pub per_kept_block: u64,
    /// Number of blocks.
    pub num_blocks: usize,
}

impl MemoryCosts {
    /// What training a model holds that is not loaded.
    pub fn of(config: &ModelConfig, lora: Option<&LoraConfig>, trainable: Trainable, dtype: ComputeDtype) -> Self {
        let infos = Layout::new(config, lora).infos;
        let is_trained = |info: &ParameterInfo| trainable.includes(info);
        Self::new(config, lora, dtype, infos.iter().map(|info| (info, is_trained(info))))
    }

    /// With these parameters, and whether each is trained.
    fn new<'a>(
        config: &ModelConfig,
        lora: Option<&LoraConfig>,
        dtype: ComputeDtype,
        parameters: impl Iterator<Item = (&'a ParameterInfo, bool)>,
    ) -> Self {
        let (mut weights, mut trained) = (0, 0);
        for (info, is_trained) in parameters {
            let (count, held_in) = (size(info), info.dtype(dtype));
            let has_master = is_trained && held_in != ComputeDtype::Float32;
            weights += count * (held_in.num_bytes() + if has_master { FLOAT } else { 0 });
            trained += if is_trained { count } else { 0 };
        }
        let width = config.hidden_size as u64;
        let inner = config.intermediate_size as u64;
        let heads = (config.num_attention_heads * config.head_dim) as u64;
        let kv_heads = (config.num_key_value_heads * config.head_dim) as u64;
        let head_norms = if config.qk_norm == QkNorm::None { 0 } else { heads + kv_heads };
        let output_norms = if config.norm_placement == NormPlacement::Before { 0 } else { 2 * width };
        let (gates, router, linears) = match config.experts {
            None => (2 * inner, 0, 7),
            // What a token's experts keep; probabilities and weights of all of them.
            Some(experts) => {
                let picked = experts.per_token as u64;
                (picked * 2 * inner, 2 * experts.count as u64 + picked, 5 + 3 * picked)
            }
        };
        let ranks = lora.map_or(0, |lora| linears * lora.r as u64);
        // Queries and the attention's output, keys and values, the stream between the halves, gate and up, and outputs
        // that are normalised.
        let block = 2 * heads
            + 2 * kv_heads
            + head_norms
            + width
            + output_norms
            + gates
            + router
            + ranks
            + config.num_attention_heads as u64;
        // A fused product stands beside its parts; of experts one may get every token.
        let fused = if config.fused_projections { (heads + 2 * kv_heads).max(2 * inner) } else { 0 };
        let gathered = if config.experts.is_some() { 2 * inner + 4 * width } else { 0 };
        // What half a block adds, before and after its factor.
        let scaled = if config.residual_scale.is_some() { 2 * width } else { 0 };
        // The block at work, beside its activations if it runs again: the gated product and its gradient, gradients of
        // queries, keys, values and of the stream; and at the output layer three times the rows that predict a token.
        let work = 2 * inner + 2 * heads + 2 * kv_heads + 9 * width + output_norms + fused + gathered + scaled;
        let number = dtype.num_bytes();
        Self {
            weights,
            resident: weights + FLOAT * 3 * trained,
            per_token: number * (config.num_hidden_layers as u64 * width + block) + FLOAT * work,
            per_kept_block: number * block,
            num_blocks: config.num_hidden_layers,
        }
    }
}

impl<B: FusedOps> CausalLm<B> {
    /// What training this model holds.
    pub fn memory_costs(&self) -> MemoryCosts {
        let parameters = self.layout.infos.iter().zip(self.trainable.iter().copied());
        MemoryCosts::new(&self.config, self.lora(), self.dtype, parameters)
    }
}

fn size(info: &ParameterInfo) -> u64 {
    info.file_shape.iter().product::<usize>() as u64
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use burn_flex::{Flex, FlexDevice};
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use collimate_hf::{HostTensor, LoraTargets};

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
        let place = (FlexDevice, ComputeDtype::Float32);
        CausalLm::<Flex>::new(config, None, Trainable::Base, place, zeros).expect("a model").memory_costs()
    }

    #[test]
    fn a_block_keeps_more_where_more_is_normalised_or_several_experts_are_picked() {
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
    fn experts_are_held_whether_or_not_a_token_goes_through_them() {
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
    fn a_model_costs_on_paper_what_it_costs_when_it_is_loaded(
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
        let model = CausalLm::<Flex>::new(config.clone(), lora.clone(), trainable, (FlexDevice, dtype), zeros);
        let loaded = model.expect("a model").memory_costs();
        assert_eq!(MemoryCosts::of(&config, lora.as_ref(), trainable, dtype), loaded);
    }

    #[test]
    fn bfloat16_halves_what_is_read_and_adds_masters_to_what_is_trained() {
        let (config, bfloat16) = (config(false), ComputeDtype::Bfloat16);
        let lora = LoraConfig::new(2, 4.0, LoraTargets::AllLinear);
        let of = |lora: Option<&LoraConfig>, trainable| MemoryCosts::of(&config, lora, trainable, bfloat16);
        let vectors = (2 * 3 + 1) * 16;
        let matrices = ParameterCounts::of(&config, None, Trainable::Base).base - vectors;
        assert_eq!(of(None, Trainable::Nothing).resident, 2 * matrices + 4 * vectors);
        let full = of(None, Trainable::Base);
        assert_eq!(full.weights, (2 + 4) * matrices + 4 * vectors);
        assert_eq!(full.resident - full.weights, 3 * 4 * (matrices + vectors), "gradients and moments in float32");
        // Both factors of four linear layers of attention and three of the rest, in each of three blocks.
        let adapter = 3 * 2 * (2 * (16 + 16) + 2 * (16 + 8) + 3 * (16 + 24));
        let with_adapter = of(Some(&lora), Trainable::Adapter);
        assert_eq!(with_adapter.resident, 2 * matrices + 4 * vectors + 4 * 4 * adapter);
        let in_float32 = MemoryCosts::of(&config, None, Trainable::Base, ComputeDtype::Float32);
        assert_eq!(2 * full.per_kept_block, in_float32.per_kept_block);
    }

    #[test]
    fn parameters_are_counted_without_a_model() {
        let lora = LoraConfig::new(2, 4.0, LoraTargets::Names(vec!["q_proj".to_owned()]));
        let counts = ParameterCounts::of(&config(false), Some(&lora), Trainable::Adapter);
        // Two embeddings; queries and output, keys and values, gate, up and down, two norms; the last norm.
        let block = 2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 24 + 2 * 16;
        assert_eq!(counts.base, 2 * 50 * 16 + 3 * block + 16);
        assert_eq!((counts.adapter, counts.trained), (3 * 2 * (16 + 16), 3 * 2 * (16 + 16)));
    }
}
