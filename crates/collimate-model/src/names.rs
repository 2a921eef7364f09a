//! Names and shapes of every tensor of an architecture, as Hugging Face files have them.

use crate::config::ModelConfig;

/// A tensor that a model must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name in the files: `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// Its shape; a linear layer's weight is [out, in].
    pub shape: Vec<usize>,
}

/// A linear layer of the decoder's blocks: what LoRA can attach to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinearSpec {
    /// Its name without `.weight`: `model.layers.0.self_attn.q_proj`.
    pub module: String,
    /// Width of its input.
    pub in_features: usize,
    /// Width of its output.
    pub out_features: usize,
    /// Whether it has a bias, [out].
    pub bias: bool,
}

/// Every linear layer of the blocks, in the order of the layers; the output embedding is not among them.
pub fn linear_modules(config: &ModelConfig) -> Vec<LinearSpec> {
    (0..config.num_hidden_layers).flat_map(|layer| linears_of_layer(config, layer)).collect()
}

/// Every tensor that the architecture needs; without `lm_head.weight` where the embeddings are tied.
pub(crate) fn tensors(config: &ModelConfig) -> Vec<TensorSpec> {
    let width = config.hidden_size;
    let mut specs = vec![TensorSpec::new("model.embed_tokens.weight", &[config.vocab_size, width])];
    for layer in 0..config.num_hidden_layers {
        let block = format!("model.layers.{layer}");
        for linear in linears_of_layer(config, layer) {
            let LinearSpec { module, in_features, out_features, bias } = linear;
            specs.push(TensorSpec::new(format!("{module}.weight"), &[out_features, in_features]));
            if bias {
                specs.push(TensorSpec::new(format!("{module}.bias"), &[out_features]));
            }
        }
        if config.qk_norm {
            for norm in ["q_norm", "k_norm"] {
                specs.push(TensorSpec::new(format!("{block}.self_attn.{norm}.weight"), &[config.head_dim]));
            }
        }
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            specs.push(TensorSpec::new(format!("{block}.{norm}.weight"), &[width]));
        }
    }
    specs.push(TensorSpec::new("model.norm.weight", &[width]));
    if !config.tie_word_embeddings {
        specs.push(TensorSpec::new("lm_head.weight", &[config.vocab_size, width]));
    }
    specs
}

impl TensorSpec {
    /// A tensor by its name and shape.
    pub fn new(name: impl Into<String>, shape: &[usize]) -> Self {
        Self { name: name.into(), shape: shape.to_vec() }
    }

    /// The number of its values: the product of the shape.
    pub fn num_elements(&self) -> usize {
        self.shape.iter().product()
    }
}

fn linears_of_layer(config: &ModelConfig, layer: usize) -> [LinearSpec; 7] {
    let width = config.hidden_size;
    let inner = config.intermediate_size;
    let queries = config.num_attention_heads * config.head_dim;
    let keys = config.num_key_value_heads * config.head_dim;
    let bias = config.attention_bias;
    let linear = |part: &str, in_features, out_features, bias| LinearSpec {
        module: format!("model.layers.{layer}.{part}"),
        in_features,
        out_features,
        bias,
    };
    [
        linear("self_attn.q_proj", width, queries, bias.q),
        linear("self_attn.k_proj", width, keys, bias.k),
        linear("self_attn.v_proj", width, keys, bias.v),
        linear("self_attn.o_proj", queries, width, bias.o),
        linear("mlp.gate_proj", width, inner, config.mlp_bias),
        linear("mlp.up_proj", width, inner, config.mlp_bias),
        linear("mlp.down_proj", inner, width, config.mlp_bias),
    ]
}
