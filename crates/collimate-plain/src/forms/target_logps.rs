//! Log-probs of target tokens, in chunks of rows so that the logits are never all in memory.

use burn::tensor::activation::{softmax, tanh};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, IndexingUpdateOp, Tensor, TensorData};
use collimate_kernels::TargetLogp;

use super::{accumulate, indices};
use crate::dtype::{in_dtype, in_float32};
use crate::operands::{Gradient, OutputLayer};

/// Maximum logits per chunk (32 MiB of float32).
const CHUNK_ELEMENTS: usize = 8 << 20;

fn chunks(total: usize, vocab_size: usize) -> impl Iterator<Item = (usize, usize)> {
    let step = (CHUNK_ELEMENTS / vocab_size.max(1)).max(1);
    (0..total).step_by(step).map(move |start| (start, (start + step).min(total)))
}

/// Logits in float32, with the layer's softcap applied.
fn logits<B: Backend>(hidden: Tensor<B, 2>, layer: OutputLayer<'_, B>) -> Tensor<B, 2> {
    let logits = in_float32(hidden.matmul(layer.weight.clone().transpose()));
    match layer.softcap {
        Some(cap) => tanh(logits.div_scalar(cap)).mul_scalar(cap),
        None => logits,
    }
}

/// `FusedOps::target_logps`.
pub fn target_logps<B: Backend>(hidden: &Tensor<B, 2>, layer: OutputLayer<'_, B>, targets: &[u32]) -> Vec<TargetLogp> {
    let device = hidden.device();
    let mut values = Vec::with_capacity(targets.len());
    for (start, end) in chunks(targets.len(), layer.weight.dims()[0]) {
        let tokens = indices::<B>(&targets[start..end], &device);
        let logits = logits(hidden.clone().narrow(0, start, end - start), layer);
        let picked = logits.clone().gather(1, tokens.unsqueeze_dim(1));
        let highest = logits.clone().max_dim(1);
        let total = (logits - highest.clone()).exp().sum_dim(1);
        values.extend(logps_from_sums(Tensor::cat(vec![picked, highest, total], 1)));
    }
    values
}

/// Log-probs from rows of (target's logit, largest logit, Σ e^(logit − largest)), [M, 3].
///
/// In float64: rounding each token's log-prob to float32 costs 1e-5 nats over a response, which changes the coefficients
/// more than the rest of the forward pass does.
pub fn logps_from_sums<B: Backend>(rows: Tensor<B, 2>) -> Vec<TargetLogp> {
    let numbers: Vec<f64> = rows.into_data().iter::<f64>().collect();
    let logp = |row: &[f64]| {
        let log_sum_exp = row[1] + row[2].ln();
        TargetLogp { logp: row[0] - row[1] - row[2].ln(), log_sum_exp }
    };
    numbers.chunks_exact(3).map(logp).collect()
}

/// Concatenates chunks of rows; zeros in the shape of `like` if there are none.
pub fn concatenated<B: Backend>(chunks: Vec<Tensor<B, 2>>, like: &Tensor<B, 2>) -> Tensor<B, 2> {
    if chunks.is_empty() { like.zeros_like() } else { Tensor::cat(chunks, 0) }
}

/// `FusedOps::target_logps_backward`.
pub fn target_logps_backward<B: Backend>(
    hidden: &Tensor<B, 2>,
    layer: OutputLayer<'_, B>,
    targets: &[u32],
    forward: &[TargetLogp],
    coefficients: &[f32],
    mut d_weight: Option<&mut Gradient<B>>,
) -> Tensor<B, 2> {
    debug_assert_eq!(forward.len(), targets.len(), "one forward result per target");
    let (device, weight) = (hidden.device(), layer.weight);
    let mut d_hidden = Vec::new();
    for (start, end) in chunks(targets.len(), weight.dims()[0]) {
        let tokens = indices::<B>(&targets[start..end], &device);
        let h = hidden.clone().narrow(0, start, end - start);
        let c = TensorData::new(coefficients[start..end].to_vec(), [end - start, 1]);
        let c = Tensor::<B, 2>::from_data(c, &device);
        let logits = logits(h.clone(), layer);
        let mut pushed = softmax(logits.clone(), 1) * c.clone().neg();
        let mut c = c;
        if let Some(cap) = layer.softcap {
            let slope = {
                let relative = logits.div_scalar(cap);
                (relative.clone() * relative).neg().add_scalar(1.0)
            };
            c = c * slope.clone().gather(1, tokens.clone().unsqueeze_dim(1));
            pushed = pushed * slope;
        }
        if hidden.dtype() != DType::F32 {
            // Both parts of d logp / d logits = onehot − softmax before rounding: for a likely token they nearly cancel.
            let pushed = in_dtype(pushed.scatter(1, tokens.unsqueeze_dim(1), c, IndexingUpdateOp::Add), hidden.dtype());
            d_hidden.push(pushed.clone().matmul(weight.clone()));
            if let Some(gradient) = d_weight.as_deref_mut() {
                accumulate(gradient, pushed.transpose().matmul(h));
            }
            continue;
        }
        // The one-hot part by gathering rows rather than by a product.
        let picked = weight.clone().select(0, tokens.clone()) * c.clone();
        d_hidden.push(pushed.clone().matmul(weight.clone()) + picked);
        if let Some(gradient) = d_weight.as_deref_mut() {
            accumulate(gradient, pushed.transpose().matmul(h.clone()));
            let held = gradient.take();
            *gradient = held.map(|d| d.select_assign(0, tokens, h * c, IndexingUpdateOp::Add));
        }
    }
    concatenated(d_hidden, hidden)
}
