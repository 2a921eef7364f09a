//! AdamW with PyTorch's semantics.

use burn::tensor::Tensor;
use collimate_backend::{AdamwStep, FusedOps, Moments};
use collimate_model::CausalLm;

/// Settings of one update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UpdateOptions {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Largest global norm of the gradient; 0 turns clipping off.
    pub max_grad_norm: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment, after bias correction.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Whether norms and biases decay too.
    pub decay_norms: bool,
    /// If off, the gradient is measured and discarded, and no parameter changes.
    pub apply: bool,
}

/// What an update measured, and whether it was applied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UpdateStats {
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Whether the parameters changed. They do not if the norm is not finite or [`UpdateOptions::apply`] is off.
    pub applied: bool,
}

impl UpdateOptions {
    /// The options for a parameter by its name.
    pub(crate) fn for_parameter(&self, parameter: &str) -> Self {
        let decays = self.decay_norms || !is_norm_or_bias(parameter);
        Self { weight_decay: if decays { self.weight_decay } else { 0.0 }, ..*self }
    }
}

/// Whether transformers' trainer spares a parameter of this name weight decay (`get_decay_parameter_names`).
fn is_norm_or_bias(parameter: &str) -> bool {
    let name = parameter.to_lowercase();
    // What the published recipe of VAR spares besides: places, scales and factors that are trained.
    if ["pos_start", "pos_1lc", "lvl_embed", "ada_gss", "scale_mul"].iter().any(|word| name.contains(word)) {
        return true;
    }
    let is_part = |part: &str| part == "norm" || part.ends_with("_norm");
    ["bias", "layernorm", "rmsnorm"].iter().any(|word| name.contains(word)) || name.split('.').any(is_part)
}

/// AdamW, with the moments of each trained parameter.
///
/// The update of step t (Loshchilov and Hutter, arXiv 1711.05101, as PyTorch orders it):
/// `p ← p (1 − lr·λ)`, `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`,
/// `p ← p − lr/(1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)`.
#[derive(Debug)]
pub struct AdamW<B: FusedOps> {
    /// Updates so far.
    pub step: u64,
    /// Moments by parameter; `None` until its first update.
    pub moments: Vec<Option<Moments<B>>>,
}

impl<B: FusedOps> AdamW<B> {
    /// An optimizer for `num_parameters` parameters, all moments zero.
    pub fn new(num_parameters: usize) -> Self {
        Self { step: 0, moments: vec![None; num_parameters] }
    }

    /// Counts one more update. Call it once per step, before its parameters are updated.
    pub fn begin_step(&mut self) {
        self.step += 1;
    }

    /// Returns the new value of one parameter. Its gradient is multiplied by `gradient_scale` first.
    pub fn update(
        &mut self,
        index: usize,
        parameter: Tensor<B, 2>,
        gradient: &Tensor<B, 2>,
        gradient_scale: f64,
        options: &UpdateOptions,
    ) -> Tensor<B, 2> {
        let zeros = || Moments { m: gradient.zeros_like(), v: gradient.zeros_like() };
        let moments = self.moments[index].take().unwrap_or_else(zeros);
        let steps = self.step as i32;
        let step = AdamwStep {
            gradient_scale,
            beta1: options.beta1,
            beta2: options.beta2,
            step_size: options.learning_rate / (1.0 - options.beta1.powi(steps)),
            correction: (1.0 - options.beta2.powi(steps)).sqrt(),
            epsilon: options.epsilon,
            decay: 1.0 - options.learning_rate * options.weight_decay,
        };
        let (updated, moments) = B::adamw(parameter, gradient, moments, &step);
        self.moments[index] = Some(moments);
        updated
    }
}

impl<B: FusedOps> AdamW<B> {
    /// Clips the gradients that a model has accumulated, and updates its parameters with them.
    pub(crate) fn update_all(&mut self, model: &mut CausalLm<B>, options: &UpdateOptions) -> UpdateStats {
        let trainable = model.trainable();
        let gradients: Vec<_> = trainable.iter().map(|&i| model.take_gradient(i)).collect();
        let norm = B::sum_of_squares(&gradients.iter().flatten().collect::<Vec<_>>()).sqrt();
        if !norm.is_finite() || !options.apply {
            return UpdateStats { grad_norm: norm, applied: false };
        }
        let factor = clip_factor(norm, options.max_grad_norm);
        self.begin_step();
        for (&index, gradient) in trainable.iter().zip(gradients) {
            let Some(gradient) = gradient else { continue };
            // Moved out so that it has a single owner: burn then updates it in place.
            let parameter = model.take_parameter(index);
            let own = options.for_parameter(&model.parameters()[index].name);
            model.set_parameter(index, self.update(index, parameter, &gradient, factor, &own));
        }
        UpdateStats { grad_norm: norm, applied: true }
    }
}

/// Factor that scales a gradient of this norm down to the limit, as in PyTorch's `clip_grad_norm_`.
pub(crate) fn clip_factor(norm: f64, max_grad_norm: f64) -> f64 {
    if max_grad_norm > 0.0 { (max_grad_norm / (norm + 1e-6)).min(1.0) } else { 1.0 }
}

#[cfg(test)]
mod tests;
