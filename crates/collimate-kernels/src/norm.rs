//! RMSNorm.

/// `out = x / √(mean(x²) + eps) · weight` for each row of `weight.len()` numbers; `x` and `out` are [N, D].
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let _ = (x, weight, eps, out);
    unimplemented!()
}

/// Replaces `d` (the gradient of the output, [N, D]) by that of `x`; adds the weight's, [D], to `d_weight` if given.
pub fn rms_norm_backward(x: &[f32], weight: &[f32], eps: f32, d: &mut [f32], d_weight: Option<&mut [f32]>) {
    let _ = (x, weight, eps, d, d_weight);
    unimplemented!()
}
