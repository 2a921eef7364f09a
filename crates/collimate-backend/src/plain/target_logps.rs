//! Log-probs of target tokens in chunks: never the whole logits.

use burn::tensor::activation::{softmax, tanh};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, IndexingUpdateOp, Tensor, TensorData};
use collimate_kernels::TargetLogp;

use super::{accumulate, indices};
use crate::dtype::{in_dtype, in_float32};
use crate::ops::{Gradient, OutputLayer};

/// Logits of a chunk: at most this many numbers (32 MiB of float32).
const CHUNK_ELEMENTS: usize = 8 << 20;

fn chunks(total: usize, vocab_size: usize) -> impl Iterator<Item = (usize, usize)> {
    let step = (CHUNK_ELEMENTS / vocab_size.max(1)).max(1);
    (0..total).step_by(step).map(move |start| (start, (start + step).min(total)))
}

/// Logits of some rows of hidden states in float32, squashed where the layer does so.
fn logits<B: Backend>(hidden: Tensor<B, 2>, layer: OutputLayer<'_, B>) -> Tensor<B, 2> {
    let logits = in_float32(hidden.matmul(layer.weight.clone().transpose()));
    match layer.softcap {
        Some(cap) => tanh(logits.div_scalar(cap)).mul_scalar(cap),
        None => logits,
    }
}

/// See [`FusedOps::target_logps`](crate::FusedOps::target_logps).
pub fn target_logps<B: Backend>(hidden: &Tensor<B, 2>, layer: OutputLayer<'_, B>, targets: &[u32]) -> Vec<TargetLogp> {
    let device = hidden.device();
    let mut values = Vec::with_capacity(targets.len());
    for (start, end) in chunks(targets.len(), layer.weight.dims()[0]) {
        let tokens = indices::<B>(&targets[start..end], &device);
        let logits = logits(hidden.clone().narrow(0, start, end - start), layer);
        let picked = logits.clone().gather(1, tokens.unsqueeze_dim(1));
        let highest = logits.clone().max_dim(1);
        let total = (logits - highest.clone()).exp().sum_dim(1);
        values.extend(finished(Tensor::cat(vec![picked, highest, total], 1)));
    }
    values
}

/// From each row's target's logit, its largest logit, and Σ e^(logit − largest), [M, 3].
pub(crate) fn finished<B: Backend>(columns: Tensor<B, 2>) -> Vec<TargetLogp> {
    let columns: Vec<f64> = columns.into_data().iter::<f64>().collect();
    // Finished in float64: rounding each token's log-prob to float32 costs 1e-5 nats over a response, which moves
    // the coefficients by more than the rest of the forward pass does.
    let finish = |c: &[f64]| TargetLogp { logp: c[0] - c[1] - c[2].ln(), log_sum_exp: c[1] + c[2].ln() };
    columns.chunks_exact(3).map(finish).collect()
}

/// Chunks below each other, or zeros in the shape of `like` where there is none.
pub(crate) fn joined<B: Backend>(chunks: Vec<Tensor<B, 2>>, like: &Tensor<B, 2>) -> Tensor<B, 2> {
    if chunks.is_empty() { like.zeros_like() } else { Tensor::cat(chunks, 0) }
}

/// See [`FusedOps::target_logps_backward`](crate::FusedOps::target_logps_backward).
pub fn target_logps_backward<B: Backend>(
    hidden: &Tensor<B, 2>,
    layer: OutputLayer<'_, B>,
    targets: &[u32],
    forward: &[TargetLogp],
    coefficients: &[f32],
    mut d_weight: Option<&mut Gradient<B>>,
) -> Tensor<B, 2> {
    debug_assert_eq!(forward.len(), targets.len(), "a forward result for each target");
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
            // With the one-hot part of d logp / d logits = onehot − softmax in it before it is rounded: of a likely
            // token the two nearly cancel.
            let pushed = in_dtype(pushed.scatter(1, tokens.unsqueeze_dim(1), c, IndexingUpdateOp::Add), hidden.dtype());
            d_hidden.push(pushed.clone().matmul(weight.clone()));
            if let Some(gradient) = d_weight.as_deref_mut() {
                accumulate(gradient, pushed.transpose().matmul(h));
            }
            continue;
        }
        // Here the one-hot part is done by picking rows, so each row has a factor.
        let picked = weight.clone().select(0, tokens.clone()) * c.clone();
        d_hidden.push(pushed.clone().matmul(weight.clone()) + picked);
        if let Some(gradient) = d_weight.as_deref_mut() {
            accumulate(gradient, pushed.transpose().matmul(h.clone()));
            let held = gradient.take();
            *gradient = held.map(|d| d.select_assign(0, tokens, h * c, IndexingUpdateOp::Add));
        }
    }
    joined(d_hidden, hidden)
}
