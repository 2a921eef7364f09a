//! Which parameter is which: a model is a flat list of matrices, and this says where each stands.

use std::collections::HashMap;

use crate::config::ModelConfig;
use crate::peft::LoraConfig;

/// One parameter: where it comes from and how it is stored.
///
/// Every parameter is a matrix. Vectors (norms, biases) are [1, n]. Weights of linear layers are stored [in, out], the
/// transpose of their file's shape, so that products and their gradients run over contiguous rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterInfo {
    /// Name in the Hugging Face file, or in the PEFT file for adapters.
    pub name: String,
    /// Shape in that file.
    pub file_shape: Vec<usize>,
    /// Whether the stored matrix is the transpose of the file's.
    pub transposed: bool,
    /// Whether it belongs to an adapter.
    pub is_adapter: bool,
}

impl ParameterInfo {
    /// Shape of the stored matrix.
    pub fn stored_shape(&self) -> [usize; 2] {
        match (self.file_shape.as_slice(), self.transposed) {
            ([rows, columns], true) => [*columns, *rows],
            ([rows, columns], false) => [*rows, *columns],
            (other, _) => [1, other.iter().product()],
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
    /// Number of this linear layer in the model, for random draws that are its own.
    pub(crate) number: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct LayerIds {
    pub(crate) input_norm: usize,
    pub(crate) q: LinearIds,
    pub(crate) k: LinearIds,
    pub(crate) v: LinearIds,
    pub(crate) o: LinearIds,
    pub(crate) q_norm: Option<usize>,
    pub(crate) k_norm: Option<usize>,
    pub(crate) post_norm: usize,
    pub(crate) gate: LinearIds,
    pub(crate) up: LinearIds,
    pub(crate) down: LinearIds,
}

/// Indices of all parameters of a model.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) infos: Vec<ParameterInfo>,
    pub(crate) embedding: usize,
    pub(crate) layers: Vec<LayerIds>,
    pub(crate) final_norm: usize,
    /// `None` where the embedding is the output layer too.
    pub(crate) head: Option<usize>,
}

impl Layout {
    pub(crate) fn new(config: &ModelConfig, lora: Option<&LoraConfig>) -> Self {
        let mut builder = Builder { infos: Vec::new(), by_name: HashMap::new(), linears: 0 };
        for spec in config.tensors() {
            // Rows of the embedding and of the output layer belong to tokens and are picked by them.
            let by_token = ["model.embed_tokens.weight", "lm_head.weight"].contains(&spec.name.as_str());
            let transposed = spec.shape.len() == 2 && !by_token;
            builder.push(spec.name, spec.shape, transposed, false);
        }
        let layers = (0..config.num_hidden_layers).map(|i| builder.layer(i, lora)).collect();
        Self {
            embedding: builder.by_name["model.embed_tokens.weight"],
            layers,
            final_norm: builder.by_name["model.norm.weight"],
            head: builder.by_name.get("lm_head.weight").copied(),
            infos: builder.infos,
        }
    }
}

struct Builder {
    infos: Vec<ParameterInfo>,
    by_name: HashMap<String, usize>,
    linears: usize,
}

impl Builder {
    fn push(&mut self, name: String, file_shape: Vec<usize>, transposed: bool, is_adapter: bool) -> usize {
        self.by_name.insert(name.clone(), self.infos.len());
        self.infos.push(ParameterInfo { name, file_shape, transposed, is_adapter });
        self.infos.len() - 1
    }

    fn layer(&mut self, i: usize, lora: Option<&LoraConfig>) -> LayerIds {
        let at = |name: &str| format!("model.layers.{i}.{name}");
        LayerIds {
            input_norm: self.by_name[&at("input_layernorm.weight")],
            q: self.linear(&at("self_attn.q_proj"), lora),
            k: self.linear(&at("self_attn.k_proj"), lora),
            v: self.linear(&at("self_attn.v_proj"), lora),
            o: self.linear(&at("self_attn.o_proj"), lora),
            q_norm: self.by_name.get(&at("self_attn.q_norm.weight")).copied(),
            k_norm: self.by_name.get(&at("self_attn.k_norm.weight")).copied(),
            post_norm: self.by_name[&at("post_attention_layernorm.weight")],
            gate: self.linear(&at("mlp.gate_proj"), lora),
            up: self.linear(&at("mlp.up_proj"), lora),
            down: self.linear(&at("mlp.down_proj"), lora),
        }
    }

    fn linear(&mut self, module: &str, lora: Option<&LoraConfig>) -> LinearIds {
        let weight = self.by_name[&format!("{module}.weight")];
        let bias = self.by_name.get(&format!("{module}.bias")).copied();
        let [inputs, outputs] = self.infos[weight].stored_shape();
        let lora = lora.filter(|config| config.matches(module)).map(|config| {
            let name = |factor: &str| format!("base_model.model.{module}.lora_{factor}.weight");
            LoraIds {
                a: self.push(name("A"), vec![config.r, inputs], true, true),
                b: self.push(name("B"), vec![outputs, config.r], true, true),
            }
        });
        let number = self.linears;
        self.linears += 1;
        LinearIds { weight, bias, lora, number }
    }
}
