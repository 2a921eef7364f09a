//! The gated activation of the feed-forward layer.

/// What is applied to the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateActivation {
    /// `x · σ(x)`.
    Silu,
    /// `x · Φ(x)`, by the error function.
    Gelu,
    /// GELU's tanh approximation.
    GeluTanh,
}

/// `out = activation(gate) · up`, all [n].
pub fn gated(activation: GateActivation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    let _ = (activation, gate, up, out);
    unimplemented!()
}

/// Replaces `gate` and `up` by their gradients, given that of the output; all [n].
pub fn gated_backward(activation: GateActivation, gate: &mut [f32], up: &mut [f32], d_out: &[f32]) {
    let _ = (activation, gate, up, d_out);
    unimplemented!()
}
