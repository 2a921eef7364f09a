//! The output layer: log-probs of targets, logits, and their backward pass.

use burn::tensor::activation::tanh;
use burn::tensor::{Tensor, TensorData};
use collimate_backend::{Factor, FusedOps, Gradient, OutputLayer, TargetLogp, in_dtype, in_float32};

use super::{Engine, Gradients};
use crate::host::int_tensor;
use crate::parameter_index::LoraIds;
use crate::targets::Targets;

/// The rows that predict response tokens, [M, D], and what their backward pass reads.
pub(crate) struct HeadTape<B: FusedOps> {
    rows: Tensor<B, 2>,
    saved: HeadSaved<B>,
}

enum HeadSaved<B: FusedOps> {
    /// For a frozen head: the gradient of each row's log-prob with respect to its normed row, [M, D].
    Gradients(Tensor<B, 2>),
    /// For a trained head: its input, and the rows' log-probs.
    Input(HeadInput<B>, Vec<TargetLogp>),
}

/// The input of the output layer.
struct HeadInput<B: FusedOps> {
    /// The normed rows, [M, D]; with an adapter, s · (input of B) in further columns, [M, D + r].
    hidden: Tensor<B, 2>,
    /// The adapter's part.
    adapted: Option<AdaptedInput<B>>,
}

struct AdaptedInput<B: FusedOps> {
    /// The input of A, [M, D].
    dropped: Tensor<B, 2>,
    /// What it was multiplied by for dropout.
    mask: Option<Tensor<B, 2>>,
}

impl<B: FusedOps> Engine<'_, B> {
    /// Logits of final hidden states, [S, D] → [S, V].
    pub(crate) fn logits(&self, hidden: &Tensor<B, 2>) -> Tensor<B, 2> {
        let head = &self.index.head;
        let weight = Factor::transpose_of(&self.params[head.weight]);
        let mut logits = in_float32(B::multiply(None, 1.0, Factor::new(hidden), weight));
        if let Some(lora) = &head.lora {
            let low = B::multiply(None, 1.0, Factor::new(hidden), Factor::new(&self.params[lora.a]));
            let b = Factor::transpose_of(&self.params[lora.b]);
            logits = B::multiply(Some(logits), lora.scale, Factor::new(&low), b);
            if let Some(magnitude) = lora.magnitude {
                logits = logits * self.head_lengths(lora, magnitude).factor.transpose();
            }
        }
        match self.config.logit_softcap {
            Some(cap) => tanh(logits.div_scalar(cap)).mul_scalar(cap),
            None => logits,
        }
    }

    /// Log-probs of the targets from the last block's output, [N, D].
    pub(crate) fn head_scores(&self, x: &Tensor<B, 2>, targets: &Targets) -> Vec<TargetLogp> {
        let normed = self.final_norm(&self.head_rows(x, targets));
        let input = self.head_input(normed, x.dims()[0], targets);
        let weight = self.head_weight();
        B::target_logps(&input.hidden, self.output_layer(&weight), &targets.tokens)
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
        let weight = self.head_weight();
        if trained || self.index.head.lora.is_some() {
            let input = self.head_input(normed, x.dims()[0], targets);
            let logps = B::target_logps(&input.hidden, self.output_layer(&weight), &targets.tokens);
            return (logps.clone(), HeadTape { rows, saved: HeadSaved::Input(input, logps) });
        }
        let (logps, gradients) = B::target_logps_with_gradients(&normed, self.output_layer(&weight), &targets.tokens);
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
            HeadSaved::Input(HeadInput { hidden, adapted: None }, logps) => {
                let weight = self.head_weight();
                let (layer, d_weight) = (self.output_layer(&weight), gradients.get(self.index.head.weight));
                B::target_logps_backward(&hidden, layer, &targets.tokens, &logps, &coefficients, d_weight)
            }
            HeadSaved::Input(HeadInput { hidden, adapted: Some(adapted) }, logps) => {
                let weight = self.head_weight();
                let (layer, mut d_weight) = (self.output_layer(&weight), None);
                let d_weight_slot = Some(&mut d_weight);
                let d_hidden =
                    B::target_logps_backward(&hidden, layer, &targets.tokens, &logps, &coefficients, d_weight_slot);
                self.adapted_head_backward(&adapted, d_hidden, d_weight, gradients)
            }
        };
        let d_rows = self.final_norm_backward(&rows, d_normed, gradients);
        let zeros = Tensor::zeros([num_rows, self.config.hidden_size], (self.device, self.dtype.burn_dtype()));
        B::add_rows(zeros, &targets.rows, &d_rows)
    }

    /// The gradient of the normed rows, given those of the output layer's input and weight; adds those of the adapter.
    fn adapted_head_backward(
        &self,
        adapted: &AdaptedInput<B>,
        d_hidden: Tensor<B, 2>,
        d_weight: Gradient<B>,
        gradients: &mut Gradients<'_, B>,
    ) -> Tensor<B, 2> {
        let (width, all) = (self.config.hidden_size, d_hidden.dims()[1]);
        let d_normed = B::columns(&d_hidden, 0..width);
        let Some(lora) = &self.index.head.lora else { return d_normed };
        if let Some(mut d_weight) = d_weight {
            if let Some(magnitude) = lora.magnitude {
                let lengths = self.head_lengths(lora, magnitude);
                if let Some(gradient) = gradients.get(magnitude) {
                    let products = d_weight.clone() * in_float32(self.head_matrices(lora));
                    add(gradient, lengths.d_magnitude(products.sum_dim(1)));
                }
                d_weight = d_weight * lengths.factor;
            }
            if let Some(gradient) = gradients.get(lora.b) {
                add(gradient, B::columns(&d_weight, width..all));
            }
        }
        let d_low = B::columns(&d_hidden, width..all).mul_scalar(lora.scale);
        if let Some(gradient) = gradients.get(lora.a) {
            B::add_product(gradient, 1.0, Factor::transpose_of(&adapted.dropped), Factor::new(&d_low));
        }
        let a = Factor::transpose_of(&self.params[lora.a]);
        match &adapted.mask {
            None => B::multiply(Some(d_normed), 1.0, Factor::new(&d_low), a),
            Some(mask) => {
                let d_dropped = B::multiply(None, 1.0, Factor::new(&d_low), a);
                B::add(d_normed, &(in_float32(d_dropped) * in_float32(mask.clone())))
            }
        }
    }

    /// The output layer's input from the normed rows, given the number of rows of the pack.
    fn head_input(&self, normed: Tensor<B, 2>, num_rows: usize, targets: &Targets) -> HeadInput<B> {
        let head = &self.index.head;
        let Some(lora) = &head.lora else { return HeadInput { hidden: normed, adapted: None } };
        // The rows are not in the pack's order, so the mask is drawn for the whole pack.
        let mask = self.dropout.map(|dropout| {
            let ones = Tensor::ones([num_rows, self.config.hidden_size], (self.device, normed.dtype()));
            self.head_rows(&dropout.apply(ones, head.ordinal, None), targets)
        });
        let dropped = match &mask {
            Some(mask) => normed.clone() * mask.clone(),
            None => normed.clone(),
        };
        let low = B::multiply(None, lora.scale, Factor::new(&dropped), Factor::new(&self.params[lora.a]));
        let low = in_dtype(low, normed.dtype());
        HeadInput { hidden: Tensor::cat(vec![normed, low], 1), adapted: Some(AdaptedInput { dropped, mask }) }
    }

    /// The output layer's weight, [V, D]; with an adapter, B in further columns, and DoRA's lengths.
    fn head_weight(&self) -> Tensor<B, 2> {
        let weight = &self.params[self.index.head.weight];
        let Some(lora) = &self.index.head.lora else { return weight.clone() };
        let matrices = self.head_matrices(lora);
        match lora.magnitude {
            None => matrices,
            Some(magnitude) => {
                let factor = self.head_lengths(lora, magnitude).factor;
                in_dtype(in_float32(matrices) * factor, weight.dtype())
            }
        }
    }

    /// The output layer's weight and the adapter's B side by side, [V, D + r].
    fn head_matrices(&self, lora: &LoraIds) -> Tensor<B, 2> {
        let weight = self.params[self.index.head.weight].clone();
        let b = in_dtype(self.params[lora.b].clone(), weight.dtype());
        Tensor::cat(vec![weight, b], 1)
    }

    fn output_layer<'t>(&self, weight: &'t Tensor<B, 2>) -> OutputLayer<'t, B> {
        OutputLayer { weight, softcap: self.config.logit_softcap.map(|cap| cap as f32) }
    }

    fn head_rows(&self, x: &Tensor<B, 2>, targets: &Targets) -> Tensor<B, 2> {
        x.clone().select(0, int_tensor(&targets.rows, self.device))
    }
}

fn add<B: FusedOps>(gradient: &mut Gradient<B>, more: Tensor<B, 2>) {
    *gradient = Some(match gradient.take() {
        Some(held) => held + more,
        None => more,
    });
}
