//! A mixture of experts, forward and backward.
//!
//! The tokens of an expert are gathered into one matrix, and a backend may compute several experts at once. They are added to
//! the residual stream in order, and a token's experts depend only on its own row, so a result's bits do not depend on the rest
//! of the pack.

use burn::tensor::{Tensor, TensorData};
use collimate_backend::{FusedOps, in_dtype, in_float32};
use collimate_routing::Routing;

use super::gated::Gated;
use super::linear::Low;
use super::shared_expert::SharedTape;
use super::{Engine, Gradients};
use crate::host::{floats, int_tensor};
use crate::parameter_index::{ExpertIds, GatedIds};

/// What a mixture's backward pass reads besides its input.
pub(crate) struct Mixture<B: FusedOps> {
    pub(super) routing: Routing,
    low_router: Low<B>,
    /// By expert; `None` for those without tokens.
    experts: Vec<Option<Gated<B>>>,
    /// The layer beside them, if there is one.
    shared: Option<SharedTape<B>>,
}

impl<B: FusedOps> Engine<'_, B> {
    /// Routes the rows of `h` [N, D] and adds their experts' outputs to `onto`; without it, skips the last products.
    pub(super) fn mixture(&self, ids: &ExpertIds, h: &Tensor<B, 2>, mut onto: Option<&mut Tensor<B, 2>>) -> Mixture<B> {
        let (logits, low_router) = self.linear(&ids.router, &in_float32(h.clone()), None);
        let pick_bias = ids.pick_bias.map(|bias| floats(self.params[bias].clone()));
        let routing = Routing::new(&floats(logits), ids.config, pick_bias.as_deref());
        let mut experts = Vec::with_capacity(ids.experts.len());
        for part in routing.parts(h.dims()[0]) {
            let is_last = onto.is_none();
            let done = B::each(part.clone().collect(), |id| self.expert(&ids.experts[id], &routing, id, h, is_last));
            for (id, (gated, added)) in part.zip(done) {
                experts.push(gated);
                if let (Some(onto), Some(added)) = (onto.as_deref_mut(), added) {
                    // Moved out so that it has a single owner and is updated in place.
                    let sum = std::mem::replace(onto, Tensor::empty([0, 0], &h.device()));
                    *onto = B::add_rows(sum, routing.rows(id), &added);
                }
            }
        }
        let shared = ids.shared.as_ref().map(|ids| self.shared_expert(ids, h, onto));
        Mixture { routing, low_router, experts, shared }
    }

    /// What an expert's backward pass reads and, unless the last product is left out, the weighted output for its rows.
    fn expert(
        &self,
        ids: &GatedIds,
        routing: &Routing,
        id: usize,
        h: &Tensor<B, 2>,
        is_last: bool,
    ) -> (Option<Gated<B>>, Option<Tensor<B, 2>>) {
        let rows = routing.rows(id);
        if rows.is_empty() {
            return (None, None);
        }
        let engine = self.on(rows);
        let (activated, mut gated) = engine.gates(ids, &gather(h, rows));
        if is_last {
            gated.low_down = engine.low(&ids.down, &activated);
            return (Some(gated), None);
        }
        let (out, low_down) = engine.linear(&ids.down, &activated, None);
        gated.low_down = low_down;
        (Some(gated), Some(self.scaled_residual(in_float32(out) * self.weights(routing, id))))
    }

    /// The gradient of the layer's input `h`, given that of its output.
    pub(super) fn mixture_backward(
        &self,
        ids: &ExpertIds,
        saved: Mixture<B>,
        h: &Tensor<B, 2>,
        dy: &Tensor<B, 2>,
        gradients: &mut Gradients<'_, B>,
    ) -> Tensor<B, 2> {
        let Mixture { routing, low_router, experts, shared } = saved;
        let mut d_h = h.zeros_like();
        let mut d_weights = Vec::with_capacity(experts.len());
        let mut experts = experts.into_iter();
        for part in routing.parts(h.dims()[0]) {
            let work = part.clone().zip(experts.by_ref());
            let work = work.map(|(id, saved)| (id, saved, gradients.take(ids.experts[id].parameters()))).collect();
            let done = B::each(work, |(id, saved, mut gradients): (usize, Option<Gated<B>>, Gradients<'_, B>)| {
                let found = self.one_backward(&ids.experts[id], saved, &routing, id, [h, dy], &mut gradients);
                (found, gradients)
            });
            for (id, (found, taken)) in part.zip(done) {
                gradients.put_back(taken);
                let Some((d_rows, d_weight)) = found else {
                    d_weights.push(Vec::new());
                    continue;
                };
                d_h = B::add_rows(d_h, routing.rows(id), &d_rows);
                d_weights.push(d_weight);
            }
        }
        let d_logits = routing.backward(&d_weights, gradients.balance);
        let d_logits = Tensor::from_data(TensorData::new(d_logits, [h.dims()[0], ids.experts.len()]), &h.device());
        let d_low = self.linear_gradients(&ids.router, &in_float32(h.clone()), &d_logits, &low_router, gradients);
        let d_h = self.linear_input_gradient(&ids.router, &d_logits, &d_low, Some(d_h));
        match (&ids.shared, shared) {
            (Some(ids), Some(saved)) => B::add(d_h, &self.shared_expert_backward(ids, saved, h, dy, gradients)),
            _ => d_h,
        }
    }

    /// The gradients of an expert's rows of `h` and of their weights, given the gradient of the layer's output; none if it has no
    /// rows.
    fn one_backward(
        &self,
        ids: &GatedIds,
        saved: Option<Gated<B>>,
        routing: &Routing,
        id: usize,
        [h, dy]: [&Tensor<B, 2>; 2],
        gradients: &mut Gradients<'_, B>,
    ) -> Option<(Tensor<B, 2>, Vec<f32>)> {
        let Some(saved) = saved else {
            self.begin_gradients(ids, gradients);
            return None;
        };
        let rows = routing.rows(id);
        let weights = self.weights(routing, id);
        Some(self.on(rows).expert_backward(ids, saved, &gather(h, rows), &gather(dy, rows), weights, gradients))
    }

    /// Gradients of an expert's input `x` and of its tokens' weights, given that of the weighted output.
    pub(super) fn expert_backward(
        &self,
        ids: &GatedIds,
        saved: Gated<B>,
        x: &Tensor<B, 2>,
        dy: &Tensor<B, 2>,
        weights: Tensor<B, 2>,
        gradients: &mut Gradients<'_, B>,
    ) -> (Tensor<B, 2>, Vec<f32>) {
        let activated = self.activated(&saved.gate, &saved.up);
        // The weight scales the expert's output, so it can equally scale the input of the down projection. The gradient
        // that comes back through that projection then lacks the weight, and its product with the input is the weight's
        // gradient.
        let low = saved.low_down.as_ref().map(|low| weighted(low, &weights));
        let input = weighted(&activated, &weights);
        let d_low = self.weight_gradients(&ids.down, &input, dy, &low, gradients);
        drop(input);
        let d_activated = self.linear_input_gradient(&ids.down, dy, &d_low, None);
        let mut d_weights = (in_float32(activated) * in_float32(d_activated.clone())).sum_dim(1);
        // A bias is weighted after the projection.
        if let Some(bias) = ids.down.bias {
            self.bias_gradient(&ids.down, &weighted(dy, &weights), gradients);
            d_weights = d_weights + (in_float32(dy.clone()) * self.params[bias].clone()).sum_dim(1);
        }
        let d_weights = floats(d_weights);
        (self.gates_backward(ids, saved, || x.clone(), weighted(&d_activated, &weights), gradients), d_weights)
    }

    /// Initializes gradients to zero: the optimizer updates an expert even if it had no tokens.
    fn begin_gradients(&self, ids: &GatedIds, gradients: &mut Gradients<'_, B>) {
        for id in ids.parameters() {
            if let Some(gradient) = gradients.get(id) {
                gradient.get_or_insert_with(|| self.zero_gradient(id));
            }
        }
    }

    /// The weights of an expert's tokens, [n, 1].
    fn weights(&self, routing: &Routing, expert: usize) -> Tensor<B, 2> {
        let weights = routing.weights(expert);
        let shape = [weights.len(), 1];
        Tensor::from_data(TensorData::new(weights, shape), self.device)
    }

    /// The same engine restricted to some of the pack's rows.
    fn on<'b>(&'b self, rows: &'b [u32]) -> Engine<'b, B> {
        Engine { rows: Some(rows), ..*self }
    }
}

/// Rows times their weights, in the dtype of the rows.
fn weighted<B: FusedOps>(rows: &Tensor<B, 2>, weights: &Tensor<B, 2>) -> Tensor<B, 2> {
    in_dtype(in_float32(rows.clone()) * weights.clone(), rows.dtype())
}

fn gather<B: FusedOps>(x: &Tensor<B, 2>, rows: &[u32]) -> Tensor<B, 2> {
    x.clone().select(0, int_tensor(rows, &x.device()))
}
