//! The transformer over all scales, in plain operations.

use burn::backend::Autodiff;
use burn::tensor::activation::{log_softmax, silu, softmax, tanh};
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, DType, Int, Tensor, TensorData};

use crate::codebook::Codebook;

/// Sizes and options of a transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizes {
    /// Sides of the token maps, the last one that of the picture.
    pub sides: Vec<usize>,
    /// Number of blocks.
    pub depth: usize,
    /// Width of the residual stream, D.
    pub width: usize,
    /// Attention heads, H.
    pub heads: usize,
    /// Number of tokens, V.
    pub vocab_size: usize,
    /// Added to the variance inside every norm.
    pub norm_eps: f64,
    /// Whether all blocks share one layer that makes shifts and scales of a condition, and each adds its own.
    pub shares_modulation: bool,
    /// Whether queries and keys have length 1, queries times a trained factor for each head.
    pub normalizes_attention: bool,
}

impl Sizes {
    /// Tokens of a picture, L.
    pub fn num_tokens(&self) -> usize {
        self.sides.iter().map(|side| side * side).sum()
    }

    /// The scale of each token.
    fn levels(&self) -> Vec<usize> {
        let level = |(level, side): (usize, &usize)| vec![level; side * side];
        self.sides.iter().enumerate().flat_map(level).collect()
    }
}

/// Pictures with a condition each.
#[derive(Debug, Clone, PartialEq)]
pub struct Pictures {
    /// Number of each picture's condition, \[B\].
    pub conditions: Vec<u32>,
    /// Their tokens, [B, L].
    pub tokens: Vec<u32>,
    /// Factors on what attention and the feed-forward layer of each block add, for drop path; empty where all are 1.
    pub paths: Vec<[f64; 2]>,
}

/// Gradients by parameter, and the log-probs of the same pass.
pub type Differentiated<B> = (Vec<Vec<f64>>, Vec<Tensor<B, 2>>);

/// A transformer without its parameters: these are given by name with each call, as matrices [out, in] or [1, n].
#[derive(Debug, Clone, PartialEq)]
pub struct Transformer {
    /// Sizes and options.
    pub sizes: Sizes,
    /// The codebook.
    pub codebook: Codebook,
}

/// Largest factor on the logits of normalized attention, as a logarithm.
const LARGEST_FACTOR: f32 = 100.0;

/// Parameters by name.
struct Named<'a, B: Backend> {
    names: &'a [&'a str],
    values: &'a [Tensor<B, 2>],
    device: B::Device,
}

impl<B: Backend> Named<'_, B> {
    /// A parameter; zeros of no rows if there is none, which no shape fits.
    fn get(&self, name: &str) -> Tensor<B, 2> {
        let found = self.names.iter().position(|known| *known == name).map(|index| self.values[index].clone());
        found.unwrap_or_else(|| Tensor::zeros([0, 0], &self.device))
    }

    /// x Wᵀ + b, [B, L, in] → [B, L, out].
    fn linear(&self, x: Tensor<B, 3>, module: &str) -> Tensor<B, 3> {
        self.product(x, &format!("{module}.weight")) + self.get(&format!("{module}.bias")).unsqueeze_dim::<3>(0)
    }

    /// x Wᵀ.
    fn product(&self, x: Tensor<B, 3>, weight: &str) -> Tensor<B, 3> {
        let [count, length, width] = x.dims();
        let rows = x.reshape([count * length, width]).matmul(self.get(weight).transpose());
        let out = rows.dims()[1];
        rows.reshape([count, length, out])
    }
}

impl Transformer {
    /// Log-probs of every token in nats, by picture.
    pub fn logps<B: Backend>(
        &self,
        names: &[&str],
        values: &[Tensor<B, 2>],
        pictures: &Pictures,
        device: &B::Device,
    ) -> Vec<Vec<f64>> {
        self.by_picture(self.forward(&Named { names, values, device: device.clone() }, pictures))
    }

    /// Log-probs, and the gradient of `Σ c · Σ logp` over all pictures and their tokens by parameter, given each picture's c.
    pub fn gradients<B: Backend>(
        &self,
        names: &[&str],
        values: &[Tensor<B, 2>],
        pictures: &Pictures,
        coefficients: &[f64],
        device: &B::Device,
    ) -> Differentiated<B> {
        let tracked: Vec<_> =
            values.iter().map(|value| Tensor::<Autodiff<B>, 2>::from_inner(value.clone()).require_grad()).collect();
        let named = Named { names, values: &tracked, device: device.clone() };
        let logps = self.forward(&named, pictures);
        let factors: Vec<f32> = coefficients.iter().map(|c| *c as f32).collect();
        let factors = TensorData::new(factors, [coefficients.len(), 1]);
        let factors = Tensor::<Autodiff<B>, 2>::from_data(factors, (device, DType::F32));
        let gradients = (logps.clone() * factors).sum().backward();
        let of = |value: &Tensor<Autodiff<B>, 2>| {
            value.grad(&gradients).unwrap_or_else(|| value.clone().inner().zeros_like())
        };
        (self.by_picture(logps), tracked.iter().map(of).collect())
    }

    /// Logits of every token, [B, L, V], in that order. Those of a scale depend on the tokens of coarser scales only.
    pub fn logits<B: Backend>(
        &self,
        names: &[&str],
        values: &[Tensor<B, 2>],
        pictures: &Pictures,
        device: &B::Device,
    ) -> Vec<f32> {
        let named = Named { names, values, device: device.clone() };
        self.all_logits(&named, pictures).into_data().iter::<f32>().collect()
    }

    fn by_picture<B: Backend>(&self, logps: Tensor<B, 2>) -> Vec<Vec<f64>> {
        let logps: Vec<f64> = logps.into_data().iter::<f64>().collect();
        logps.chunks(self.sizes.num_tokens()).map(<[f64]>::to_vec).collect()
    }

    /// Log-probs of the tokens, [B, L].
    fn forward<B: Backend>(&self, params: &Named<'_, B>, pictures: &Pictures) -> Tensor<B, 2> {
        let (count, length) = (pictures.conditions.len(), self.sizes.num_tokens());
        let tokens = ints(&pictures.tokens, &params.device).reshape([count, length, 1]);
        log_softmax(self.all_logits(params, pictures), 2).gather(2, tokens).reshape([count, length])
    }

    /// Logits of every token, [B, L, V].
    fn all_logits<B: Backend>(&self, params: &Named<'_, B>, pictures: &Pictures) -> Tensor<B, 3> {
        let (sizes, width) = (&self.sizes, self.sizes.width);
        let class = params.get("class_emb.weight").select(0, ints(&pictures.conditions, &params.device));
        let class: Tensor<B, 3> = class.unsqueeze_dim(1);
        let bent = silu(class.clone());
        let shared = sizes.shares_modulation.then(|| params.linear(bent.clone(), "shared_ada_lin.1"));
        let mut stream = self.embedded(params, pictures, &class);
        let finer = self.finer(&params.device);
        for block in 0..sizes.depth {
            let six = match &shared {
                Some(shared) => shared.clone() + params.get(&format!("blocks.{block}.ada_gss")).unsqueeze_dim::<3>(0),
                None => params.linear(bent.clone(), &format!("blocks.{block}.ada_lin.1")),
            };
            // Factors on what the halves add, then the norms' scales, then their shifts.
            let part = |index: usize| six.clone().narrow(2, index * width, width);
            let attended = self.attention(params, block, self.modulated(&stream, part(2), part(4)), &finer);
            let [first, second] = pictures.paths.get(block).copied().unwrap_or([1.0; 2]);
            stream = stream + on_path(part(0) * attended, first);
            let inner = params.linear(self.modulated(&stream, part(3), part(5)), &format!("blocks.{block}.ffn.fc1"));
            let added = part(1) * params.linear(gelu_tanh(inner), &format!("blocks.{block}.ffn.fc2"));
            stream = stream + on_path(added, second);
        }
        let two = params.linear(bent, "head_nm.ada_lin.1");
        let (scale, shift) = (two.clone().narrow(2, 0, width), two.narrow(2, width, width));
        params.linear(self.modulated(&stream, scale, shift), "head")
    }

    /// What the first block reads: the condition at the places of the first scale, and the embedded inputs of the others.
    fn embedded<B: Backend>(&self, params: &Named<'_, B>, pictures: &Pictures, class: &Tensor<B, 3>) -> Tensor<B, 3> {
        let sizes = &self.sizes;
        let (count, length) = (pictures.conditions.len(), sizes.num_tokens());
        let first = sizes.sides[0] * sizes.sides[0];
        let start: Tensor<B, 3> = params.get("pos_start").reshape([1, first, sizes.width]);
        let start = class.clone() + start;
        let inputs: Vec<f32> = pictures
            .tokens
            .chunks(length)
            .flat_map(|tokens| self.codebook.teacher_inputs(&sizes.sides, tokens))
            .collect();
        let shape = [count, length - first, self.codebook.width];
        let inputs = Tensor::<B, 3>::from_data(TensorData::new(inputs, shape), (&params.device, DType::F32));
        let all = match length > first {
            true => Tensor::cat(vec![start, params.linear(inputs, "word_embed")], 1),
            false => start,
        };
        let levels: Vec<u32> = sizes.levels().iter().map(|level| *level as u32).collect();
        let levels = params.get("lvl_embed.weight").select(0, ints(&levels, &params.device));
        let places: Tensor<B, 2> = params.get("pos_1LC").reshape([length, sizes.width]);
        all + (levels + places).unsqueeze_dim::<3>(0)
    }

    /// The norm without weights, times 1 + `scale`, plus `shift`.
    fn modulated<B: Backend>(&self, x: &Tensor<B, 3>, scale: Tensor<B, 3>, shift: Tensor<B, 3>) -> Tensor<B, 3> {
        let centered = x.clone() - x.clone().mean_dim(2);
        let variance = (centered.clone() * centered.clone()).mean_dim(2);
        let normed = centered / variance.add_scalar(self.sizes.norm_eps).sqrt();
        normed * scale.add_scalar(1.0) + shift
    }

    /// Attention of a block and its output layer.
    fn attention<B: Backend>(
        &self,
        params: &Named<'_, B>,
        block: usize,
        x: Tensor<B, 3>,
        finer: &Tensor<B, 4, Bool>,
    ) -> Tensor<B, 3> {
        let [count, length, width] = x.dims();
        let (heads, dim) = (self.sizes.heads, width / self.sizes.heads);
        let root = format!("blocks.{block}.attn");
        let all = params.product(x, &format!("{root}.mat_qkv.weight"));
        let biases = [Some(params.get(&format!("{root}.q_bias"))), None, Some(params.get(&format!("{root}.v_bias")))];
        let mut parts = biases.into_iter().enumerate().map(|(index, bias)| {
            let part = all.clone().narrow(2, index * width, width);
            let part = match bias {
                Some(bias) => part + bias.unsqueeze_dim::<3>(0),
                None => part,
            };
            part.reshape([count, length, heads, dim]).swap_dims(1, 2)
        });
        let (Some(q), Some(k), Some(v)) = (parts.next(), parts.next(), parts.next()) else {
            return Tensor::zeros([count, length, width], &params.device);
        };
        let (q, k) = match self.sizes.normalizes_attention {
            true => {
                let factor = params.get(&format!("{root}.scale_mul_1H11")).clamp_max(LARGEST_FACTOR.ln()).exp();
                (unit(q) * factor.reshape([1, heads, 1, 1]), unit(k))
            }
            // A quarter of the usual factor, as published.
            false => (q.mul_scalar(0.25 / (dim as f64).sqrt()), k),
        };
        let shape = [count, heads, length, length];
        let scores = q.matmul(k.swap_dims(2, 3)).mask_fill(finer.clone().expand(shape), f32::NEG_INFINITY);
        let mixed = softmax(scores, 3).matmul(v).swap_dims(1, 2).reshape([count, length, width]);
        params.linear(mixed, &format!("{root}.proj"))
    }

    /// Which tokens are of a finer scale than a token, and hidden from it, [1, 1, L, L].
    fn finer<B: Backend>(&self, device: &B::Device) -> Tensor<B, 4, Bool> {
        let levels = self.sizes.levels();
        let mask: Vec<bool> = levels.iter().flat_map(|own| levels.iter().map(move |other| other > own)).collect();
        Tensor::from_data(TensorData::new(mask, [1, 1, levels.len(), levels.len()]), device)
    }
}

/// What a layer adds, times its factor.
fn on_path<B: Backend>(added: Tensor<B, 3>, factor: f64) -> Tensor<B, 3> {
    if factor == 1.0 { added } else { added.mul_scalar(factor) }
}

/// Vectors of length 1; the zero vector stays.
fn unit<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    let length = (x.clone() * x.clone()).sum_dim(3).sqrt().clamp_min(1e-12);
    x / length
}

fn gelu_tanh<B: Backend>(x: Tensor<B, 3>) -> Tensor<B, 3> {
    let cubic = x.clone() * x.clone() * x.clone();
    let inner = (x.clone() + cubic.mul_scalar(0.044715)).mul_scalar((2.0 / std::f64::consts::PI).sqrt());
    x.mul_scalar(0.5) * tanh(inner).add_scalar(1.0)
}

fn ints<B: Backend>(values: &[u32], device: &B::Device) -> Tensor<B, 1, Int> {
    let values: Vec<i32> = values.iter().map(|value| *value as i32).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}
