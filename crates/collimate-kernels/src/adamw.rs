//! AdamW's update in one pass over memory.

/// Numbers of one AdamW update, as PyTorch orders it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamwStep {
    /// Gradients are multiplied by this first: the factor of clipping by global norm.
    pub gradient_scale: f32,
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of squared gradients.
    pub beta2: f32,
    /// `lr / (1 − β₁ᵗ)`.
    pub step_size: f32,
    /// `√(1 − β₂ᵗ)`.
    pub correction: f32,
    /// Added to the root of the second moment, after bias correction.
    pub epsilon: f32,
    /// `1 − lr·λ`, what decay leaves of a parameter.
    pub decay: f32,
}

/// `p ← p·decay`, `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`, `p ← p − step_size·m / (√v/correction + ε)`, all [n].
pub fn adamw(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], step: &AdamwStep) {
    let _ = (p, g, m, v, step);
    unimplemented!()
}
