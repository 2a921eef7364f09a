//! The works, and the models they train.

use serde::Serialize;
use serde_json::{Value, json};

/// Sizes of a Llama.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Name on the command line and in results.
    pub name: &'static str,
    /// D.
    pub hidden: usize,
    /// Blocks.
    pub layers: usize,
    /// H.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// V.
    pub vocab: usize,
    /// Whether the output layer is the embedding.
    pub tied: bool,
    /// Type of the stored weights.
    pub stored: Stored,
}

/// Type of a model's stored weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Stored {
    /// What the CPU computes in.
    F32,
    /// What large models are published in.
    BF16,
}

impl Stored {
    /// Its name in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::BF16 => "bfloat16",
        }
    }
}

/// The models, the default first.
pub const SHAPES: &[Shape] = &[
    // SmolLM2-135M.
    llama("135m", [576, 30, 9, 3, 1536, 49_152], true, Stored::F32),
    llama("10m", [256, 8, 4, 2, 1024, 16_384], true, Stored::F32),
    // Llama-3.2-1B.
    llama("1b", [2048, 16, 32, 8, 8192, 128_256], true, Stored::BF16),
    // Llama-3.1-8B.
    llama("8b", [4096, 32, 32, 8, 14_336, 128_256], false, Stored::BF16),
];

/// D, blocks, H, heads of keys and values, width of the MLP, V.
const fn llama(name: &'static str, sizes: [usize; 6], tied: bool, stored: Stored) -> Shape {
    let [hidden, layers, heads, kv_heads, intermediate, vocab] = sizes;
    Shape { name, hidden, layers, heads, kv_heads, intermediate, vocab, tied, stored }
}

impl Shape {
    /// Weights of the linear layers and the output layer, each two FLOPs per token in a forward pass.
    pub fn num_multiplied(&self) -> usize {
        let block: usize = self.linears().iter().map(|(_, inputs, outputs)| inputs * outputs).sum();
        self.layers * block + self.vocab * self.hidden
    }

    /// FLOPs of a step over this many tokens, policy and reference once each.
    ///
    /// A forward pass takes two per weight and token; the backward pass takes as many for activations and, if weights are
    /// trained, as many again for them. Attention scores are left out: a few percent at these lengths.
    pub fn step_flops(&self, tokens: f64, lora: bool) -> f64 {
        let passes = if lora { 3.0 } else { 4.0 };
        2.0 * passes * self.num_multiplied() as f64 * tokens
    }

    /// The model's `config.json`; embeddings are tied.
    pub fn config(&self) -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "hidden_size": self.hidden, "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads, "intermediate_size": self.intermediate, "vocab_size": self.vocab,
            "head_dim": self.hidden / self.heads, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
            "rope_theta": 100_000.0, "tie_word_embeddings": self.tied, "attention_bias": false, "mlp_bias": false,
            "bos_token_id": null, "eos_token_id": 2, "pad_token_id": 0, "torch_dtype": self.stored.name(),
        })
    }

    /// The linear layers of a block: name, inputs, outputs.
    pub fn linears(&self) -> [(&'static str, usize, usize); 7] {
        let (width, kv) = (self.hidden, self.hidden / self.heads * self.kv_heads);
        [
            ("self_attn.q_proj", width, width),
            ("self_attn.k_proj", width, kv),
            ("self_attn.v_proj", width, kv),
            ("self_attn.o_proj", width, width),
            ("mlp.gate_proj", width, self.intermediate),
            ("mlp.up_proj", width, self.intermediate),
            ("mlp.down_proj", self.intermediate, width),
        ]
    }
}

/// Source of the groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Rows of this file in the data folder, spaced evenly.
    File(&'static str),
    /// Random words with these lengths.
    Words {
        /// P.
        prompt_tokens: usize,
        /// R, the end token included.
        response_tokens: usize,
        /// K.
        num_responses: usize,
    },
}

/// Training of one entrant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    /// Its data.
    pub source: Source,
    /// Prompts per optimizer step.
    pub groups_per_step: usize,
    /// Whether a LoRA adapter of rank 16 on all linear layers is trained, instead of all weights.
    pub lora: bool,
    /// The recipe's `memory_budget`, for works about it.
    pub memory_budget: Option<&'static str>,
}

/// Something to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Name on the command line and in results.
    pub name: &'static str,
    /// Description for tables.
    pub title: &'static str,
    /// Tasks measured side by side: one against PyTorch, or several of ours.
    pub tasks: &'static [(&'static str, Task)],
}

const fn file(name: &'static str, groups_per_step: usize, lora: bool) -> Task {
    Task { source: Source::File(name), groups_per_step, lora, memory_budget: None }
}

const fn sweep(num_responses: usize, lora: bool) -> Task {
    let source = Source::Words { prompt_tokens: 400, response_tokens: 25, num_responses };
    Task { source, groups_per_step: 1, lora, memory_budget: None }
}

const fn within(memory_budget: &'static str, task: Task) -> Task {
    Task { memory_budget: Some(memory_budget), ..task }
}

/// Prompts with long responses, for GPUs.
const fn device(prompt_tokens: usize, response_tokens: usize, num_responses: usize, groups_per_step: usize) -> Task {
    let source = Source::Words { prompt_tokens, response_tokens, num_responses };
    Task { source, groups_per_step, lora: true, memory_budget: None }
}

const fn long(num_responses: usize) -> Task {
    let source = Source::Words { prompt_tokens: 400, response_tokens: 1000, num_responses };
    within("2GiB", Task { source, groups_per_step: 1, lora: true, memory_budget: None })
}

const GSM8K: &str = "gsm8k_rewards.jsonl";
const TOPICAL: &str = "topical_chat_rewards.jsonl";

/// All works.
pub const WORKS: &[Work] = &[
    Work { name: "gsm8k-full", title: "GSM8K, K = 4, full fine-tuning", tasks: &[("", file(GSM8K, 2, false))] },
    Work { name: "gsm8k-lora", title: "GSM8K, K = 4, LoRA r 16", tasks: &[("", file(GSM8K, 2, true))] },
    Work { name: "topical-lora", title: "topical chat, K = 6, LoRA r 16", tasks: &[("", file(TOPICAL, 1, true))] },
    Work {
        name: "k-sweep",
        title: "prompt 400, responses 25, LoRA r 16",
        tasks: &[
            ("K = 2", sweep(2, true)),
            ("K = 4", sweep(4, true)),
            ("K = 8", sweep(8, true)),
            ("K = 16", sweep(16, true)),
        ],
    },
    Work {
        name: "k-sweep-full",
        title: "prompt 400, responses 25, full fine-tuning",
        tasks: &[
            ("K = 2", sweep(2, false)),
            ("K = 4", sweep(4, false)),
            ("K = 8", sweep(8, false)),
            ("K = 16", sweep(16, false)),
        ],
    },
    Work {
        name: "k-sweep-budget",
        title: "prompt 400, responses 25, LoRA r 16, in 1.12 GiB",
        tasks: &[
            ("K = 2", within("1.12GiB", sweep(2, true))),
            ("K = 4", within("1.12GiB", sweep(4, true))),
            ("K = 8", within("1.12GiB", sweep(8, true))),
            ("K = 16", within("1.12GiB", sweep(16, true))),
        ],
    },
    Work {
        name: "long-responses",
        title: "prompt 400, responses 1,000, LoRA r 16, in 2 GiB",
        tasks: &[("K = 2", long(2)), ("K = 64", long(64))],
    },
    Work { name: "shared-k2", title: "prompt 400, responses 25, K = 2, LoRA r 16", tasks: &[("", sweep(2, true))] },
    Work { name: "shared-k4", title: "prompt 400, responses 25, K = 4, LoRA r 16", tasks: &[("", sweep(4, true))] },
    Work { name: "shared-k8", title: "prompt 400, responses 25, K = 8, LoRA r 16", tasks: &[("", sweep(8, true))] },
    Work { name: "shared-k16", title: "prompt 400, responses 25, K = 16, LoRA r 16", tasks: &[("", sweep(16, true))] },
    Work {
        name: "device-k2",
        title: "prompt 512, responses 256, K = 2, LoRA r 16",
        tasks: &[("", device(512, 256, 2, 4))],
    },
    Work {
        name: "device-k4",
        title: "prompt 512, responses 256, K = 4, LoRA r 16",
        tasks: &[("", device(512, 256, 4, 4))],
    },
    Work {
        name: "device-k4-single",
        title: "prompt 512, responses 256, K = 4, LoRA r 16, one prompt a step",
        tasks: &[("", device(512, 256, 4, 1))],
    },
    Work {
        name: "device-long",
        title: "prompt 2,048, responses 128, K = 4, LoRA r 16",
        tasks: &[("", device(2048, 128, 4, 1))],
    },
];

/// Whether a work is one of the control's: the tasks of `k-sweep`, each by itself, since three entrants need much memory.
pub fn is_control(name: &str) -> bool {
    name.starts_with("shared-")
}

impl Work {
    /// Whether it runs without being named: not what takes a CPU hours, and the control's only on demand.
    pub fn is_usual(&self) -> bool {
        !self.name.starts_with("device-") && !is_control(self.name)
    }

    /// Whether PyTorch takes part; sweeps compare ours with itself.
    pub fn has_peer(&self) -> bool {
        self.tasks.len() == 1
    }
}

/// β of the objective (NCA).
pub const BETA: f64 = 0.1;
/// α of the objective, in units of the reward.
pub const ALPHA: f64 = 0.33;
/// Most tokens of a prompt and a response.
pub const MAX_LENGTH: usize = 4096;
/// Most tokens of a prompt.
pub const MAX_PROMPT_LENGTH: usize = 3072;
/// Rank and alpha of adapters.
pub const LORA_RANK: usize = 16;

impl Task {
    /// The learning rate, constant over the steps.
    pub fn learning_rate(&self) -> f64 {
        if self.lora { 1e-4 } else { 1e-6 }
    }
}
