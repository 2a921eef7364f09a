//! The output layer: log-probs of targets, logits, and their backward pass.

use burn::tensor::activation::tanh;
use burn::tensor::{Tensor, TensorData};
use collimate_backend::{Factor, FusedOps, OutputLayer, TargetLogp, in_float32};

use super::{Engine, Gradients};
use crate::host::int_tensor;
use crate::targets::Targets;

/// The rows that predict response tokens, [M, D], and what their backward pass reads.
pub(crate) struct HeadTape<B: FusedOps> {
    rows: Tensor<B, 2>,
    saved: HeadSaved<B>,
}

enum HeadSaved<B: FusedOps> {
    /// For a frozen head: the gradient of each row's log-prob with respect to its normed row, [M, D].
    Gradients(Tensor<B, 2>),
    /// For a trained head: the normed rows, [M, D], and their log-probs.
    Normed(Tensor<B, 2>, Vec<TargetLogp>),
}

impl<B: FusedOps> Engine<'_, B> {
    /// Logits of final hidden states, [S, D] → [S, V].
    pub(crate) fn logits(&self, hidden: &Tensor<B, 2>) -> Tensor<B, 2> {
        let weight = Factor::transpose_of(&self.params[self.index.head()]);
        let logits = in_float32(B::multiply(None, 1.0, Factor::new(hidden), weight));
        match self.config.logit_softcap {
            Some(cap) => tanh(logits.div_scalar(cap)).mul_scalar(cap),
            None => logits,
        }
    }

    /// Log-probs of the targets from the last block's output, [N, D].
    pub(crate) fn head_scores(&self, x: &Tensor<B, 2>, targets: &Targets) -> Vec<TargetLogp> {
        let normed = self.final_norm(&self.head_rows(x, targets));
        B::target_logps(&normed, self.output_layer(), &targets.tokens)
    }

    /// [`Engine::head_scores`], with what the backward pass reads; `trained` says whether the output layer is.
    pub(crate) fn head_forward(
        &self,
        x: &Tensor<B, 2>,
        targets: &Targets,
        trained: bool,
    ) -> (Vec<TargetLogp>, HeadTape<B>) {
        let rows = self.head_rows(x, targets);
        let normed = self.final_norm(&rows);
        if trained {
            let logps = B::target_logps(&normed, self.output_layer(), &targets.tokens);
            return (logps.clone(), HeadTape { rows, saved: HeadSaved::Normed(normed, logps) });
        }
        let (logps, gradients) = B::target_logps_with_gradients(&normed, self.output_layer(), &targets.tokens);
        (logps, HeadTape { rows, saved: HeadSaved::Gradients(gradients) })
    }

    /// The gradient of the last block's output, [N, D] with N of `num_rows`, given each target's coefficient, [M].
    pub(crate) fn head_backward(
        &self,
        head: HeadTape<B>,
        targets: &Targets,
        coefficients: Vec<f32>,
        num_rows: usize,
        gradients: &mut Gradients<'_, B>,
    ) -> Tensor<B, 2> {
        let HeadTape { rows, saved } = head;
        let d_normed = match saved {
            HeadSaved::Gradients(gradients) => {
                let shape = [coefficients.len(), 1];
                in_float32(gradients) * Tensor::from_data(TensorData::new(coefficients, shape), self.device)
            }
            HeadSaved::Normed(normed, logps) => {
                let (layer, d_weight) = (self.output_layer(), gradients.get(self.index.head()));
                B::target_logps_backward(&normed, layer, &targets.tokens, &logps, &coefficients, d_weight)
            }
        };
        let d_rows = self.final_norm_backward(&rows, d_normed, gradients);
        let zeros = Tensor::zeros([num_rows, self.config.hidden_size], (self.device, self.dtype.burn_dtype()));
        B::add_rows(zeros, &targets.rows, &d_rows)
    }

    fn output_layer(&self) -> OutputLayer<'_, B> {
        let softcap = self.config.logit_softcap.map(|cap| cap as f32);
        OutputLayer { weight: &self.params[self.index.head()], softcap }
    }

    fn head_rows(&self, x: &Tensor<B, 2>, targets: &Targets) -> Tensor<B, 2> {
        x.clone().select(0, int_tensor(&targets.rows, self.device))
    }
}
