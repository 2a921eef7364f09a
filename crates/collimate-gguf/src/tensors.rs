//! The tensors of a file: llama.cpp's name, shape and type for each, and the weights it is made of.

use std::collections::BTreeMap;

use collimate_hf::{Block, FeedForward, Gated, HfError, Joint, LinearSpec, RopeScaling, TensorSpec};

use crate::blocks::GgufType;
use crate::metadata::Model;
use crate::source::{Source, TensorSource};

/// Every tensor, in the file's order.
pub(crate) fn tensors(model: &Model<'_>, outtype: GgufType) -> Result<Vec<TensorSource>, HfError> {
    let config = model.config;
    let mut tensors = computed(model)?;
    tensors.push(one(model, config.embedding(), "token_embd.weight".to_owned(), outtype));
    let mut experts = Vec::new();
    for layer in 0..config.num_hidden_layers {
        let block = config.block(layer);
        let names = names(model, &block);
        let specs = block.linears().into_iter().flat_map(LinearSpec::tensors).chain(block.norms().cloned());
        for spec in specs {
            let module = split(&spec.name);
            let name = module.and_then(|(module, kind)| Some(format!("blk.{layer}.{}.{kind}", names.get(module)?)));
            tensors.extend(name.map(|name| one(model, spec, name, outtype)));
        }
        let sinks = block.sinks.iter().map(|spec| (spec, "attn_sinks.weight"));
        let pick_bias = match &block.feed_forward {
            FeedForward::Experts { pick_bias, .. } => pick_bias.as_ref(),
            FeedForward::Dense(_) => None,
        };
        for (spec, name) in sinks.chain(pick_bias.map(|spec| (spec, "exp_probs_b.bias"))) {
            tensors.push(one(model, spec.clone(), format!("blk.{layer}.{name}"), outtype));
        }
        if let FeedForward::Experts { experts: of_layer, .. } = &block.feed_forward {
            experts.extend(stacked(layer, of_layer, outtype));
        }
    }
    tensors.push(one(model, config.final_norm(), "output_norm.weight".to_owned(), outtype));
    let output = |spec| one(model, spec, "output.weight".to_owned(), outtype);
    tensors.extend(config.output_layer().map(output));
    tensors.extend(experts);
    if config.tie_word_embeddings && model.family.repeats_tied_output {
        tensors.push(output(config.embedding()));
    }
    Ok(tensors)
}

/// The tensor of one weight.
fn one(model: &Model<'_>, spec: TensorSpec, name: String, outtype: GgufType) -> TensorSource {
    let config = model.config;
    let heads = match name.rsplit('.').nth(1) {
        Some("attn_q") if model.family.interleaved => Some(config.num_attention_heads),
        Some("attn_k") if model.family.interleaved => Some(config.num_key_value_heads),
        _ => None,
    };
    let source = match heads {
        Some(heads) => Source::Interleaved { name: spec.name, heads },
        None if config.norm_offset && spec.name.ends_with("norm.weight") => Source::OnePlus(spec.name),
        None => Source::Weight(spec.name),
    };
    TensorSource { stored: stored(&name, &spec.shape, outtype), name, shape: spec.shape, source }
}

/// The experts of a layer: one tensor each for the gates, ups and downs of all of them, and for their biases.
fn stacked(layer: usize, experts: &[Gated], outtype: GgufType) -> Vec<TensorSource> {
    let mut tensors = Vec::new();
    for (index, part) in ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"].into_iter().enumerate() {
        let linears: Vec<_> = experts.iter().filter_map(|expert| expert.linears().nth(index)).collect();
        let Some(first) = linears.first() else { continue };
        for spec in first.tensors() {
            let kind = split(&spec.name).map_or("weight", |(_, kind)| kind);
            let name = format!("blk.{layer}.{part}.{kind}");
            let shape = [&[linears.len()], spec.shape.as_slice()].concat();
            let source = Source::Stacked(linears.iter().map(|linear| format!("{}.{kind}", linear.module)).collect());
            tensors.push(TensorSource { stored: stored(&name, &shape, outtype), name, shape, source });
        }
    }
    tensors
}

/// The type a tensor is stored in. llama.cpp wants vectors, norms, biases and routers in float32. Embeddings keep eight bits where
/// matrices have four, since every token passes them twice. Rows that do not divide into blocks are stored in float16.
fn stored(name: &str, shape: &[usize], outtype: GgufType) -> GgufType {
    let whole =
        shape.len() < 2 || ["_norm.weight", ".ffn_gate_inp.weight", ".bias"].iter().any(|end| name.ends_with(end));
    let embedding = matches!(name, "token_embd.weight" | "output.weight");
    let wanted = match outtype {
        _ if whole => GgufType::F32,
        GgufType::Q4_0 if embedding => GgufType::Q8_0,
        outtype => outtype,
    };
    if wanted.fits(shape.last().copied().unwrap_or(1)) { wanted } else { GgufType::F16 }
}

/// llama.cpp's names for the modules of a block, except for the experts.
fn names<'a>(model: &Model<'_>, block: &'a Block) -> BTreeMap<&'a str, &'static str> {
    let mut names = BTreeMap::new();
    match &block.qkv {
        Joint::Apart([q, k, v]) => {
            names.extend([(q, "attn_q"), (k, "attn_k"), (v, "attn_v")].map(|(linear, name)| named(linear, name)))
        }
        Joint::Fused(qkv, _) => names.extend([named(qkv, "attn_qkv")]),
    }
    names.extend([named(&block.o, "attn_output")]);
    match &block.feed_forward {
        FeedForward::Experts { router, shared, .. } => {
            names.extend([named(router, "ffn_gate_inp")]);
            let parts = ["ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp"];
            let linears = shared.iter().flat_map(|shared| shared.layer.linears().zip(parts));
            names.extend(linears.map(|(linear, name)| named(linear, name)));
        }
        FeedForward::Dense(Gated { gate_up, down }) => {
            match gate_up {
                Joint::Apart([gate, up]) => {
                    names.extend([(gate, "ffn_gate"), (up, "ffn_up")].map(|(linear, name)| named(linear, name)))
                }
                // Gate first.
                Joint::Fused(gate_up, _) => names.extend([named(gate_up, "ffn_up")]),
            }
            names.extend([named(down, "ffn_down")]);
        }
    }
    let norms = [
        (&block.q_norm, "attn_q_norm"),
        (&block.k_norm, "attn_k_norm"),
        (&block.attention_norms.before, "attn_norm"),
        (&block.attention_norms.after, "post_attention_norm"),
        (&block.feed_forward_norms.before, model.family.feed_forward_norm),
        (&block.feed_forward_norms.after, "post_ffw_norm"),
    ];
    let norms = norms.into_iter().filter_map(|(norm, name)| Some((split(&norm.as_ref()?.name)?.0, name)));
    names.extend(norms);
    names
}

fn named<'a>(linear: &'a LinearSpec, name: &'static str) -> (&'a str, &'static str) {
    (&linear.module, name)
}

/// The module of a tensor, and `weight` or `bias`.
fn split(tensor: &str) -> Option<(&str, &str)> {
    tensor.rsplit_once('.')
}

/// Tensors computed from the configuration rather than read: the divisors of the rotary frequencies.
fn computed(model: &Model<'_>) -> Result<Vec<TensorSource>, HfError> {
    let vector = |name: &str, values: Vec<f32>| TensorSource {
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

/// Llama 3.1's rotary scaling as a divisor of each frequency, in float32 like the reference.
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
