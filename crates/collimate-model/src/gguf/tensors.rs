//! Which tensors a file has: their names in llama.cpp, and which of the model's weights each is made of.

use super::blocks::GgufType;
use super::metadata::Model;
use crate::config::{Architecture, NormPlacement, RopeScaling};
use crate::error::ModelError;
use crate::names::{ROUTER, TensorSpec, expert_names};

/// A tensor of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planned {
    pub(super) name: String,
    /// Slowest dimension first, as in the model.
    pub(super) shape: Vec<usize>,
    pub(super) stored: GgufType,
    pub(super) source: Source,
}

/// Where a tensor's values come from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    /// A weight as it is.
    Weight(String),
    /// A norm that multiplies by one more than its weight.
    OnePlus(String),
    /// Rows of queries or keys, so many heads of them, in Llama's order.
    Interleaved { name: String, heads: usize },
    /// The same weight of every expert, one after the other.
    Stacked(Vec<String>),
    /// Computed from the configuration.
    Values(Vec<f32>),
}

impl Planned {
    pub(super) fn num_bytes(&self) -> usize {
        self.stored.num_bytes(self.shape.iter().product())
    }
}

/// Every tensor, in the order of the file.
pub(super) fn plan(model: &Model<'_>, outtype: GgufType) -> Result<Vec<Planned>, ModelError> {
    let config = model.config;
    let mut planned = computed(model)?;
    let is_expert = |spec: &TensorSpec| spec.name.contains(".block_sparse_moe.experts.");
    for spec in config.tensors().into_iter().filter(|spec| !is_expert(spec)) {
        planned.push(one(model, spec, outtype));
    }
    if let Some(experts) = config.experts {
        for layer in 0..config.num_hidden_layers {
            planned.extend(stacked(model, layer, experts.count, outtype));
        }
    }
    if config.tie_word_embeddings && config.architecture == Architecture::Olmo2 {
        // llama.cpp asks for an output layer of its own there.
        let spec = TensorSpec::new("model.embed_tokens.weight", &[config.vocab_size, config.hidden_size]);
        let tied = one(model, spec, outtype);
        planned.push(Planned { name: "output.weight".to_owned(), ..tied });
    }
    Ok(planned)
}

/// The tensor of one weight.
fn one(model: &Model<'_>, spec: TensorSpec, outtype: GgufType) -> Planned {
    let name = name_of(model, &spec.name);
    let config = model.config;
    let heads = match name.rsplit('.').nth(1) {
        Some("attn_q") if model.interleaves() => Some(config.num_attention_heads),
        Some("attn_k") if model.interleaves() => Some(config.num_key_value_heads),
        _ => None,
    };
    let source = match heads {
        Some(heads) => Source::Interleaved { name: spec.name, heads },
        None if config.norm_offset && spec.name.ends_with("norm.weight") => Source::OnePlus(spec.name),
        None => Source::Weight(spec.name),
    };
    Planned { stored: stored(&name, &spec.shape, outtype), name, shape: spec.shape, source }
}

/// The experts of a layer: gate, up and down of all of them in a tensor each.
fn stacked(model: &Model<'_>, layer: usize, count: usize, outtype: GgufType) -> [Planned; 3] {
    let (width, inner) = (model.config.hidden_size, model.config.intermediate_size);
    let parts = [("ffn_gate_exps", [inner, width]), ("ffn_up_exps", [inner, width]), ("ffn_down_exps", [width, inner])];
    let mut number = 0..;
    parts.map(|(part, [rows, columns])| {
        let place = number.next().unwrap_or(0);
        let name = format!("blk.{layer}.{part}.weight");
        let of = |expert: usize| format!("model.layers.{layer}.{}.weight", expert_names(expert)[place]);
        let shape = vec![count, rows, columns];
        let source = Source::Stacked((0..count).map(of).collect());
        Planned { stored: stored(&name, &shape, outtype), name, shape, source }
    })
}

/// The type of a tensor. Vectors, norms and routers are in float32, as llama.cpp wants them; with four bits the
/// embeddings, which every token passes twice, have eight; rows that no blocks fit are in float16.
fn stored(name: &str, shape: &[usize], outtype: GgufType) -> GgufType {
    let whole = shape.len() < 2 || name.ends_with("_norm.weight") || name.ends_with(".ffn_gate_inp.weight");
    let embedding = matches!(name, "token_embd.weight" | "output.weight");
    let wanted = match outtype {
        _ if whole => GgufType::F32,
        GgufType::Q4_0 if embedding => GgufType::Q8_0,
        outtype => outtype,
    };
    if wanted.fits(shape.last().copied().unwrap_or(1)) { wanted } else { GgufType::F16 }
}

/// llama.cpp's name of a weight.
fn name_of(model: &Model<'_>, weight: &str) -> String {
    match weight {
        "model.embed_tokens.weight" => return "token_embd.weight".to_owned(),
        "model.norm.weight" => return "output_norm.weight".to_owned(),
        "lm_head.weight" => return "output.weight".to_owned(),
        _ => {}
    }
    let parts = weight.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
    let Some((layer, (module, kind))) = parts.and_then(|(layer, rest)| Some((layer, rest.rsplit_once('.')?))) else {
        return weight.to_owned();
    };
    let after = model.config.norm_placement != NormPlacement::Before;
    let part = match module {
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.qkv_proj" => "attn_qkv",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "mlp.gate_proj" => "ffn_gate",
        // Gate and up in one, gate first.
        "mlp.up_proj" | "mlp.gate_up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        ROUTER => "ffn_gate_inp",
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" if after => "post_attention_norm",
        "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
        "post_feedforward_layernorm" => "post_ffw_norm",
        other => other,
    };
    format!("blk.{layer}.{part}.{kind}")
}

/// What rotation needs beside its keys: what each frequency is divided by.
fn computed(model: &Model<'_>) -> Result<Vec<Planned>, ModelError> {
    let vector = |name: &str, values: Vec<f32>| Planned {
        name: format!("{name}.weight"),
        shape: vec![values.len()],
        stored: GgufType::F32,
        source: Source::Values(values),
    };
    Ok(match &model.config.rope_scaling {
        RopeScaling::Llama3 { .. } => vec![vector("rope_freqs", llama3_divisors(model))],
        RopeScaling::Long { short_factor, .. } => {
            let short = short_factor.iter().map(|factor| *factor as f32).collect();
            vec![vector("rope_factors_long", model.long_factors()?), vector("rope_factors_short", short)]
        }
        _ => Vec::new(),
    })
}

/// Llama 3.1's stretching as a divisor of each frequency, in float32 as the reference computes it.
fn llama3_divisors(model: &Model<'_>) -> Vec<f32> {
    let RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } =
        &model.config.rope_scaling
    else {
        return Vec::new();
    };
    let (factor, low, high) = (*factor as f32, *low_freq_factor as f32, *high_freq_factor as f32);
    let original = *original_max_position_embeddings as f32;
    let (dim, base) = (model.config.rotary_dim, model.config.rope_theta as f32);
    let divisor = |i: usize| {
        let wavelength = 2.0 * std::f32::consts::PI * base.powf((2 * i) as f32 / dim as f32);
        if wavelength < original / high {
            1.0
        } else if wavelength > original / low {
            factor
        } else {
            let smooth = (original / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    (0..dim / 2).map(divisor).collect()
}
