//! The output layer in chunks of rows, so that logits take bounded memory for any vocabulary.

use burn::tensor::Tensor;
use burn_cubecl::CubeRuntime;
use burn_cubecl::element::BoolElement;
use burn_cubecl::tensor::CubeTensor;

use super::buffers::upload;
use super::target_logps;
use super::tensors::{Cube, read, write};
use crate::operands::{OutputLayer, TargetLogp};
use crate::plain;

/// Logits per chunk, at most.
const CHUNK_ELEMENTS: usize = 32 << 20;

/// Pads a number of rows by at most a sixteenth, so that few distinct shapes occur: kernels are tuned once per shape, and
/// freed memory fits the next allocation.
pub(super) fn padded_rows(rows: usize) -> usize {
    rows.next_multiple_of((rows.next_power_of_two() / 32).max(16))
}

/// Rows of hidden states whose logits are computed at once, padded by rows of zeros.
pub(super) struct Chunk<'a, R: CubeRuntime, BT: BoolElement> {
    layer: OutputLayer<'a, Cube<R, BT>>,
    /// Index of the chunk's first row.
    pub(super) start: usize,
    /// Number of rows, not counting padding.
    pub(super) rows: usize,
    /// [padded rows, D].
    pub(super) hidden: Tensor<Cube<R, BT>, 2>,
    /// \[padded rows\].
    targets: Vec<u32>,
}

impl<'a, R: CubeRuntime, BT: BoolElement> Chunk<'a, R, BT> {
    /// Divides rows into chunks as large as [`CHUNK_ELEMENTS`] allows.
    pub(super) fn all(
        hidden: &Tensor<Cube<R, BT>, 2>,
        layer: OutputLayer<'a, Cube<R, BT>>,
        targets: &[u32],
    ) -> impl Iterator<Item = Self> {
        let step = (CHUNK_ELEMENTS / layer.weight.dims()[0].max(1)).max(1);
        targets.chunks(step).zip((0..).step_by(step)).map(move |(targets, start)| {
            let (rows, padded) = (targets.len(), padded_rows(targets.len()).min(step.max(targets.len())));
            let mut targets = targets.to_vec();
            targets.resize(padded, 0);
            let own = hidden.clone().narrow(0, start, rows);
            // burn's `pad` would fill a float32 tensor whatever the dtype.
            let padding = || Tensor::zeros([padded - rows, hidden.dims()[1]], (&hidden.device(), hidden.dtype()));
            let hidden = if padded == rows { own } else { Tensor::cat(vec![own, padding()], 0) };
            Self { layer, start, rows, hidden, targets }
        })
    }

    /// [padded rows, V], in the dtype of the hidden states, without the softcap.
    pub(super) fn logits(&self) -> CubeTensor<R> {
        read(self.hidden.clone().matmul(self.layer.weight.clone().transpose()))
    }

    /// The result of [`target_logps::reduce`], without padding and with it.
    pub(super) fn reduce(&self, logits: CubeTensor<R>) -> (Tensor<Cube<R, BT>, 2>, CubeTensor<R>) {
        let reduced = target_logps::reduce(logits, &self.targets, self.layer.softcap);
        (write::<R, BT, 2>(reduced.clone()).narrow(0, 0, self.rows), reduced)
    }

    /// Rebuilds, with padding, what [`target_logps::backward`] needs from a forward pass that has already been reduced.
    pub(super) fn reduced_again(&self, like: &CubeTensor<R>, forward: &[TargetLogp]) -> CubeTensor<R> {
        let log_sum_exps = forward.iter().map(|row| row.log_sum_exp as f32);
        let padded = log_sum_exps.chain(std::iter::repeat(0.0)).take(self.targets.len());
        let reduced: Vec<f32> = padded.flat_map(|log_sum_exp| [0.0, log_sum_exp, 1.0]).collect();
        upload(&like.client, &like.device, &reduced)
    }

    /// Gradients of the logits; those of padding are zero.
    pub(super) fn logits_backward(
        &self,
        logits: CubeTensor<R>,
        reduced: CubeTensor<R>,
        coefficients: &[f32],
    ) -> Tensor<Cube<R, BT>, 2> {
        let mut coefficients = coefficients.to_vec();
        coefficients.resize(self.targets.len(), 0.0);
        write(target_logps::backward(logits, &self.targets, reduced, &coefficients, self.layer.softcap))
    }

    /// Gradients of the hidden states, without padding.
    pub(super) fn d_hidden(&self, d_logits: Tensor<Cube<R, BT>, 2>) -> Tensor<Cube<R, BT>, 2> {
        d_logits.matmul(self.layer.weight.clone()).narrow(0, 0, self.rows)
    }
}

/// Log-probs from the results of [`target_logps::reduce`] for each chunk, read back at once.
pub(super) fn logps<R: CubeRuntime, BT: BoolElement>(chunks: Vec<Tensor<Cube<R, BT>, 2>>) -> Vec<TargetLogp> {
    if chunks.is_empty() { Vec::new() } else { plain::target_logps::logps_from_sums(Tensor::cat(chunks, 0)) }
}
