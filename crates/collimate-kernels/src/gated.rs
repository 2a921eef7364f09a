//! The gated activation of the feed-forward layer.

use rayon::prelude::*;

use crate::element::Element;
use crate::simd::{CHUNK, dispatch, exp};

/// The activation applied to the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GateActivation {
    /// `x · σ(x)`.
    Silu,
    /// `x · Φ(x)`, the exact GELU.
    Gelu,
    /// GELU's tanh approximation.
    GeluTanh,
    /// `σ(x)`: a gate on a layer's output.
    Sigmoid,
}

/// `out = activation(gate) · up`, all \[n\].
pub fn gated<T: Element>(activation: GateActivation, gate: &[T], up: &[T], out: &mut [T]) {
    match activation {
        GateActivation::Silu => forward(gate, up, out, silu),
        GateActivation::Gelu => forward(gate, up, out, gelu),
        GateActivation::GeluTanh => forward(gate, up, out, gelu_tanh),
        GateActivation::Sigmoid => forward(gate, up, out, sigmoid),
    }
}

/// Replaces `gate` and `up` by their gradients, given that of the output; all \[n\].
pub fn gated_backward<T: Element>(activation: GateActivation, gate: &mut [T], up: &mut [T], d_out: &[T]) {
    match activation {
        GateActivation::Silu => backward(gate, up, d_out, silu),
        GateActivation::Gelu => backward(gate, up, d_out, gelu),
        GateActivation::GeluTanh => backward(gate, up, d_out, gelu_tanh),
        GateActivation::Sigmoid => backward(gate, up, d_out, sigmoid),
    }
}

fn forward<T: Element>(gate: &[T], up: &[T], out: &mut [T], activation: impl Fn(f32) -> (f32, f32) + Sync) {
    assert!(gate.len() == out.len() && up.len() == out.len(), "operands of one size");
    out.par_chunks_mut(CHUNK).zip(gate.par_chunks(CHUNK)).zip(up.par_chunks(CHUNK)).for_each(|((out, gate), up)| {
        dispatch(
            #[inline(always)]
            || {
                for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
                    *out = T::narrow(activation(gate.widen()).0 * up.widen());
                }
            },
        );
    });
}

fn backward<T: Element>(gate: &mut [T], up: &mut [T], d_out: &[T], activation: impl Fn(f32) -> (f32, f32) + Sync) {
    assert!(gate.len() == d_out.len() && up.len() == d_out.len(), "operands of one size");
    let inputs = gate.par_chunks_mut(CHUNK).zip(up.par_chunks_mut(CHUNK));
    inputs.zip(d_out.par_chunks(CHUNK)).for_each(|((gate, up), d_out)| {
        dispatch(
            #[inline(always)]
            || {
                for ((gate, up), &d) in gate.iter_mut().zip(up).zip(d_out) {
                    let ((value, slope), d) = (activation(gate.widen()), d.widen());
                    (*gate, *up) = (T::narrow(d * up.widen() * slope), T::narrow(d * value));
                }
            },
        );
    });
}

/// The activation's value and derivative.
#[inline(always)]
fn silu(x: f32) -> (f32, f32) {
    let sigmoid = 1.0 / (1.0 + exp(-x));
    (x * sigmoid, sigmoid * (1.0 + x * (1.0 - sigmoid)))
}

#[inline(always)]
fn sigmoid(x: f32) -> (f32, f32) {
    let value = 1.0 / (1.0 + exp(-x));
    (value, value * (1.0 - value))
}

#[inline(always)]
fn gelu_tanh(x: f32) -> (f32, f32) {
    const ROOT: f32 = 0.797_884_6; // √(2/π)
    const CUBIC: f32 = 0.044_715;
    let inner = ROOT * (x + CUBIC * x * x * x);
    // ½ (1 + tanh t) = σ(2t).
    let half = 1.0 / (1.0 + exp(-2.0 * inner));
    let slope = 2.0 * ROOT * (1.0 + 3.0 * CUBIC * x * x);
    (x * half, half + x * half * (1.0 - half) * slope)
}

#[inline(always)]
fn gelu(x: f32) -> (f32, f32) {
    const ROOT: f32 = 0.398_942_3; // 1/√(2π)
    let cdf = normal_cdf(x);
    (x * cdf, cdf + x * ROOT * exp(-0.5 * x * x))
}

/// Φ(x) by a Chebyshev fit of ln(erfc(z)/t) + z² in t = 1/(1 + z/2), whose relative error is 1.2e-7.
#[inline(always)]
fn normal_cdf(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * z);
    let p = 0.170_872_77_f32;
    let p = p.mul_add(t, -0.822_152_23);
    let p = p.mul_add(t, 1.488_515_9);
    let p = p.mul_add(t, -1.135_204);
    let p = p.mul_add(t, 0.278_868_07);
    let p = p.mul_add(t, -0.186_288_06);
    let p = p.mul_add(t, 0.096_784_18);
    let p = p.mul_add(t, 0.374_091_96);
    let p = p.mul_add(t, 1.000_023_7);
    let p = p.mul_add(t, -1.265_512_2);
    let tail = 0.5 * t * exp(-z * z + p);
    if x > 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::{assert_close, numbers};

    fn value(activation: GateActivation, x: f64) -> f64 {
        match activation {
            GateActivation::Silu => x / (1.0 + (-x).exp()),
            GateActivation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }
            GateActivation::Gelu => x * cdf(x),
            GateActivation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        }
    }

    /// Φ by the trapezoidal rule on its density, from -12.
    fn cdf(x: f64) -> f64 {
        let (from, steps) = (-12.0, 4000);
        let h = (x - from) / f64::from(steps);
        let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let inner: f64 = (1..steps).map(|i| density(from + h * f64::from(i))).sum();
        h * (inner + 0.5 * (density(from) + density(x)))
    }

    #[rstest]
    fn values_and_slopes_are_those_of_float64(
        #[values(GateActivation::Silu, GateActivation::Gelu, GateActivation::GeluTanh, GateActivation::Sigmoid)]
        activation: GateActivation,
    ) {
        let n = 1037;
        let gate: Vec<f32> = (0..n).map(|i| (i as f32 - 500.0) / 60.0).collect();
        let (up, d) = (numbers(n, 1), numbers(n, 2));
        let mut out = vec![0.0; n];
        gated(activation, &gate, &up, &mut out);
        let of = |f: &dyn Fn(usize, f64) -> f64| (0..n).map(|i| f(i, f64::from(gate[i]))).collect::<Vec<f64>>();
        assert_close(&out, &of(&|i, x| value(activation, x) * f64::from(up[i])), 5e-7);
        let (mut d_gate, mut d_up) = (gate.clone(), up.clone());
        gated_backward(activation, &mut d_gate, &mut d_up, &d);
        assert_close(&d_up, &of(&|i, x| value(activation, x) * f64::from(d[i])), 5e-7);
        let slope = |x: f64| (value(activation, x + 1e-4) - value(activation, x - 1e-4)) / 2e-4;
        assert_close(&d_gate, &of(&|i, x| slope(x) * f64::from(d[i]) * f64::from(up[i])), 2e-6);
    }

    #[test]
    fn saturated_gates_give_zero_or_themselves() {
        let mut out = vec![0.0; 4];
        gated(GateActivation::Silu, &[-1e4, 1e4, -200.0, 200.0], &[1.0; 4], &mut out);
        assert_eq!([out[1], out[3]], [1e4, 200.0]);
        assert!(out[0].abs() < 1e-30 && out[2].abs() < 1e-30);
    }
}
