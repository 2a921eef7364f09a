//! Attention among all patches of a segment, forward and backward.
//!
//! Segments of one length are computed together; of a large one, some heads at a time, so that the scores of all of them are
//! never held at once. Nothing of the scores is kept: the backward pass computes them again.

use std::ops::Range;

use burn::tensor::activation::softmax;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use collimate_backend::{in_dtype, in_float32};

/// Most scores that are held at once.
const MAX_SCORES: usize = 1 << 21;

/// Queries, keys and values, [N, heads · head_dim] each.
pub(crate) type Qkv<B> = [Tensor<B, 2>; 3];

/// Which patches attend to each other, and how.
pub(crate) struct Segments<'a> {
    pub(crate) ranges: &'a [Range<usize>],
    pub(crate) heads: usize,
    pub(crate) scale: f32,
}

/// Consecutive segments of one length, and consecutive heads.
struct Part {
    start: usize,
    count: usize,
    length: usize,
    heads: Range<usize>,
}

impl Segments<'_> {
    /// The attention's output, [N, heads · head_dim].
    pub(crate) fn attend<B: Backend>(&self, qkv: &Qkv<B>) -> Tensor<B, 2> {
        let outputs = self.by_run(|parts| {
            let heads = parts.iter().map(|part| {
                let [q, k, v] = qkv.each_ref().map(|x| self.cut(x, part));
                self.joined(self.weights(q, k).matmul(v), part, qkv[0].dtype())
            });
            [Tensor::cat(heads.collect(), 1)]
        });
        let [output] = outputs;
        output
    }

    /// Gradients of queries, keys and values, given that of the output.
    pub(crate) fn backward<B: Backend>(&self, qkv: &Qkv<B>, d_out: &Tensor<B, 2>) -> Qkv<B> {
        self.by_run(|parts| {
            let mut by_head: [Vec<Tensor<B, 2>>; 3] = [Vec::new(), Vec::new(), Vec::new()];
            for part in parts {
                let [q, k, v] = qkv.each_ref().map(|x| self.cut(x, part));
                let d_out = self.cut(d_out, part);
                let weights = self.weights(q.clone(), k.clone());
                let d_v = weights.clone().swap_dims(1, 2).matmul(d_out.clone());
                let d_weights = d_out.matmul(v.swap_dims(1, 2));
                // A softmax's gradient: w (dw − Σ w dw).
                let along = (weights.clone() * d_weights.clone()).sum_dim(2);
                let d_scores = (weights * (d_weights - along)).mul_scalar(self.scale);
                let d_q = d_scores.clone().matmul(k);
                let d_k = d_scores.swap_dims(1, 2).matmul(q);
                for (all, gradient) in by_head.iter_mut().zip([d_q, d_k, d_v]) {
                    all.push(self.joined(gradient, part, qkv[0].dtype()));
                }
            }
            by_head.map(|heads| Tensor::cat(heads, 1))
        })
    }

    /// Softmax of the scores, [segments · heads, length, length].
    fn weights<B: Backend>(&self, q: Tensor<B, 3>, k: Tensor<B, 3>) -> Tensor<B, 3> {
        softmax(q.matmul(k.swap_dims(1, 2)).mul_scalar(self.scale), 2)
    }

    /// Rows of a part in float32, [segments · heads, length, head_dim].
    fn cut<B: Backend>(&self, x: &Tensor<B, 2>, part: &Part) -> Tensor<B, 3> {
        let head_dim = x.dims()[1] / self.heads;
        let rows = x.clone().narrow(0, part.start, part.count * part.length);
        let columns = rows.narrow(1, part.heads.start * head_dim, part.heads.len() * head_dim);
        let split = in_float32(columns).reshape([part.count, part.length, part.heads.len(), head_dim]);
        split.swap_dims(1, 2).reshape([part.count * part.heads.len(), part.length, head_dim])
    }

    /// The inverse of [`Self::cut`].
    fn joined<B: Backend>(&self, x: Tensor<B, 3>, part: &Part, dtype: burn::tensor::DType) -> Tensor<B, 2> {
        let head_dim = x.dims()[2];
        let split = x.reshape([part.count, part.heads.len(), part.length, head_dim]).swap_dims(1, 2);
        in_dtype(split.reshape([part.count * part.length, part.heads.len() * head_dim]), dtype)
    }

    /// Computes each run of segments of one length, by some heads at a time, and joins the rows.
    fn by_run<B: Backend, const N: usize>(&self, compute: impl Fn(&[Part]) -> [Tensor<B, 2>; N]) -> [Tensor<B, 2>; N] {
        let mut all: [Vec<Tensor<B, 2>>; N] = std::array::from_fn(|_| Vec::new());
        for run in self.ranges.chunk_by(|a, b| a.len() == b.len()) {
            let length = run[0].len();
            let most = (MAX_SCORES / (length * length).max(1) / self.heads).max(1);
            for segments in run.chunks(most) {
                let heads = (MAX_SCORES / (length * length * segments.len()).max(1)).clamp(1, self.heads);
                let parts: Vec<Part> = (0..self.heads)
                    .step_by(heads)
                    .map(|first| Part {
                        start: segments[0].start,
                        count: segments.len(),
                        length,
                        heads: first..(first + heads).min(self.heads),
                    })
                    .collect();
                for (rows, computed) in all.iter_mut().zip(compute(&parts)) {
                    rows.push(computed);
                }
            }
        }
        all.map(|rows| Tensor::cat(rows, 0))
    }
}

/// Row numbers on a device.
pub(crate) fn rows<B: Backend>(numbers: &[u32], device: &B::Device) -> Tensor<B, 1, Int> {
    let numbers: Vec<i32> = numbers.iter().map(|&number| number as i32).collect();
    let len = numbers.len();
    Tensor::from_data(TensorData::new(numbers, [len]), device)
}
