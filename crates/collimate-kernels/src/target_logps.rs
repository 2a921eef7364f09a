//! Log-probs of target tokens from hidden states, without ever holding all logits.

/// The log-prob of one target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TargetLogp {
    /// In nats.
    pub logp: f64,
    /// Log-sum-exp of the row's logits, which [`target_logps_backward`] reads.
    pub log_sum_exp: f64,
}

/// Log-probs of `targets` under `softmax(hidden · weightᵀ)`.
///
/// `hidden` is [M, D], `weight` [V, D], `targets` [M] below V. `softcap` squashes logits to `c · tanh(logit / c)`.
/// Memory beside the inputs depends neither on V nor grows with V · M.
pub fn target_logps(hidden: &[f32], weight: &[f32], width: usize, targets: &[u32], softcap: Option<f32>) -> Vec<TargetLogp> {
    let _ = (hidden, weight, width, targets, softcap);
    unimplemented!()
}

/// Gradients of `Σ_m coefficients[m] · logp[m]`.
///
/// `d_hidden` [M, D] is overwritten; the weight's gradient, [V, D], is added to `d_weight` if given. `forward` is what
/// [`target_logps`] returned.
#[expect(clippy::too_many_arguments)] // each is a plain slice
pub fn target_logps_backward(
    hidden: &[f32],
    weight: &[f32],
    width: usize,
    targets: &[u32],
    softcap: Option<f32>,
    forward: &[TargetLogp],
    coefficients: &[f32],
    d_hidden: &mut [f32],
    d_weight: Option<&mut [f32]>,
) {
    let _ = (hidden, weight, width, targets, softcap, forward, coefficients, d_hidden, d_weight);
    unimplemented!()
}
