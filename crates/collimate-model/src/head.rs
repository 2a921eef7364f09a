//! The output layer: log-probs of targets, logits, and the way back.

use burn::tensor::activation::tanh;
use burn::tensor::{Tensor, TensorData};
use collimate_backend::{Factor, FusedOps, OutputLayer, TargetLogp, in_float32};

use crate::causal_lm::CausalLm;
use crate::engine::{Engine, Gradients};
use crate::logprob::Targets;

/// The rows that predict a response's tokens, [M, D], and what the way back from their log-probs reads.
pub(crate) struct HeadTape<B: FusedOps> {
    rows: Tensor<B, 2>,
    saved: HeadSaved<B>,
}

enum HeadSaved<B: FusedOps> {
    /// For a head that is not trained: the gradient of each row's log-prob with respect to its normed row, [M, D].
    Gradients(Tensor<B, 2>),
    /// The normed rows, [M, D], and their log-probs.
    Normed(Tensor<B, 2>, Vec<TargetLogp>),
}

impl<B: FusedOps> CausalLm<B> {
    /// Logits of some final hidden states, [S, D] → [S, V].
    pub(crate) fn logits(&self, hidden: &Tensor<B, 2>) -> Tensor<B, 2> {
        let weight = Factor::transpose_of(&self.params[self.head_id()]);
        let logits = in_float32(B::multiply(None, 1.0, Factor::of(hidden), weight));
        match self.config.logit_softcap {
            Some(cap) => tanh(logits.div_scalar(cap)).mul_scalar(cap),
            None => logits,
        }
    }

    fn head_id(&self) -> usize {
        self.layout.head.unwrap_or(self.layout.embedding)
    }

    pub(crate) fn output_layer(&self) -> OutputLayer<'_, B> {
        let softcap = self.config.logit_softcap.map(|cap| cap as f32);
        OutputLayer { weight: &self.params[self.head_id()], softcap }
    }

    pub(crate) fn head_rows(&self, x: &Tensor<B, 2>, targets: &Targets) -> Tensor<B, 2> {
        let rows: Vec<i32> = targets.rows.iter().map(|&row| row as i32).collect();
        let rows = Tensor::from_data(TensorData::new(rows, [targets.rows.len()]), &self.device);
        x.clone().select(0, rows)
    }

    pub(crate) fn head_forward(
        &self,
        engine: &Engine<'_, B>,
        x: &Tensor<B, 2>,
        targets: &Targets,
    ) -> (Vec<TargetLogp>, HeadTape<B>) {
        let rows = self.head_rows(x, targets);
        let normed = engine.final_norm(&rows);
        let id = self.head_id();
        if self.trainable[id] {
            let logps = B::target_logps(&normed, self.output_layer(), &targets.tokens);
            return (logps.clone(), HeadTape { rows, saved: HeadSaved::Normed(normed, logps) });
        }
        let (logps, gradients) = B::target_logps_with_gradients(&normed, self.output_layer(), &targets.tokens);
        (logps, HeadTape { rows, saved: HeadSaved::Gradients(gradients) })
    }

    /// The gradient of the last block's output, [N, D].
    pub(crate) fn head_backward(
        &self,
        engine: &Engine<'_, B>,
        (head, targets): (HeadTape<B>, &Targets),
        coefficients: &[Vec<f64>],
        num_rows: usize,
        gradients: &mut Gradients<'_, B>,
    ) -> Tensor<B, 2> {
        let spread = targets.spread(coefficients);
        let id = self.head_id();
        let HeadTape { rows, saved } = head;
        let d_normed = match saved {
            HeadSaved::Gradients(gradients) => {
                let num_rows = spread.len();
                in_float32(gradients) * Tensor::from_data(TensorData::new(spread, [num_rows, 1]), &self.device)
            }
            HeadSaved::Normed(normed, logps) => {
                let (layer, d_weight) = (self.output_layer(), gradients.of(id));
                B::target_logps_backward(&normed, layer, &targets.tokens, &logps, &spread, d_weight)
            }
        };
        let d_rows = engine.final_norm_backward(&rows, d_normed, gradients);
        let zeros = Tensor::zeros([num_rows, self.config.hidden_size], (&self.device, self.dtype.of_tensors()));
        B::add_rows(zeros, &targets.rows, &d_rows)
    }
}
