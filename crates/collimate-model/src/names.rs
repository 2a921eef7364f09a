//! Names and shapes of every tensor of an architecture, as Hugging Face files have them.

use crate::config::{ModelConfig, NormPlacement, QkNorm};

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
    /// Whether it has a bias, \[out\].
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
        for (norm, len) in qk_norms(config) {
            specs.push(TensorSpec::new(format!("{block}.self_attn.{norm}.weight"), &[len]));
        }
        for norm in NormNames::of(config).all() {
            specs.push(TensorSpec::new(format!("{block}.{norm}.weight"), &[width]));
        }
    }
    specs.push(TensorSpec::new("model.norm.weight", &[width]));
    if !config.tie_word_embeddings {
        specs.push(TensorSpec::new("lm_head.weight", &[config.vocab_size, width]));
    }
    specs
}

/// Names of a block's norms, on the input and on the output of attention and of the feed-forward layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NormNames {
    pub(crate) attention: [Option<&'static str>; 2],
    pub(crate) feed_forward: [Option<&'static str>; 2],
}

impl NormNames {
    pub(crate) fn of(config: &ModelConfig) -> Self {
        match config.norm_placement {
            NormPlacement::Before => Self {
                attention: [Some("input_layernorm"), None],
                feed_forward: [Some("post_attention_layernorm"), None],
            },
            NormPlacement::After => Self {
                attention: [None, Some("post_attention_layernorm")],
                feed_forward: [None, Some("post_feedforward_layernorm")],
            },
            NormPlacement::BeforeAndAfter => Self {
                attention: [Some("input_layernorm"), Some("post_attention_layernorm")],
                feed_forward: [Some("pre_feedforward_layernorm"), Some("post_feedforward_layernorm")],
            },
        }
    }

    fn all(self) -> impl Iterator<Item = &'static str> {
        self.attention.into_iter().chain(self.feed_forward).flatten()
    }
}

/// Norms of queries and keys, and what they are long.
fn qk_norms(config: &ModelConfig) -> Vec<(&'static str, usize)> {
    let dim = config.head_dim;
    match config.qk_norm {
        QkNorm::None => Vec::new(),
        QkNorm::Head => vec![("q_norm", dim), ("k_norm", dim)],
        QkNorm::Projection => {
            vec![("q_norm", config.num_attention_heads * dim), ("k_norm", config.num_key_value_heads * dim)]
        }
    }
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

fn linears_of_layer(config: &ModelConfig, layer: usize) -> Vec<LinearSpec> {
    let (width, inner) = (config.hidden_size, config.intermediate_size);
    let queries = config.num_attention_heads * config.head_dim;
    let keys = config.num_key_value_heads * config.head_dim;
    let bias = config.attention_bias;
    let linear = |part: &str, in_features, out_features, bias| LinearSpec {
        module: format!("model.layers.{layer}.{part}"),
        in_features,
        out_features,
        bias,
    };
    let mut linears = match config.fused_projections {
        true => vec![linear("self_attn.qkv_proj", width, queries + 2 * keys, false)],
        false => vec![
            linear("self_attn.q_proj", width, queries, bias.q),
            linear("self_attn.k_proj", width, keys, bias.k),
            linear("self_attn.v_proj", width, keys, bias.v),
        ],
    };
    linears.push(linear("self_attn.o_proj", queries, width, bias.o));
    match config.experts {
        Some(experts) => {
            linears.push(linear(ROUTER, width, experts.count, false));
            for expert in 0..experts.count {
                let [gate, up, down] = expert_names(expert);
                linears.push(linear(&gate, width, inner, false));
                linears.push(linear(&up, width, inner, false));
                linears.push(linear(&down, inner, width, false));
            }
        }
        None if config.fused_projections => {
            linears.push(linear("mlp.gate_up_proj", width, 2 * inner, config.mlp_bias));
            linears.push(linear("mlp.down_proj", inner, width, config.mlp_bias));
        }
        None => {
            linears.push(linear("mlp.gate_proj", width, inner, config.mlp_bias));
            linears.push(linear("mlp.up_proj", width, inner, config.mlp_bias));
            linears.push(linear("mlp.down_proj", inner, width, config.mlp_bias));
        }
    }
    linears
}

/// The router's name within a block.
pub(crate) const ROUTER: &str = "block_sparse_moe.gate";

/// Names of an expert's gate, up and down within a block.
pub(crate) fn expert_names(expert: usize) -> [String; 3] {
    [1, 3, 2].map(|number| format!("block_sparse_moe.experts.{expert}.w{number}"))
}
