//! Rotary position embedding, in place.

/// Rotates the halves of each head: (a, b) → (a cos − b sin, b cos + a sin); `inverse` by the opposite angle, which is
/// the way back of a gradient.
///
/// `x` is [N, heads · head_dim], `cos` and `sin` [N, head_dim / 2].
pub fn rotate(x: &mut [f32], cos: &[f32], sin: &[f32], head_dim: usize, inverse: bool) {
    let _ = (x, cos, sin, head_dim, inverse);
    unimplemented!()
}
