//! The non-linearities of towers that are not gates, forward and backward, in float32.

use std::f32::consts::{FRAC_1_SQRT_2, PI};

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use burn::tensor::backend::Backend;
use collimate_backend::{in_dtype, in_float32};

/// The slope of `quick_gelu`'s sigmoid.
const QUICK: f32 = 1.702;

/// `x σ(1.702 x)`.
pub(crate) fn quick_gelu<B: Backend>(x: &Tensor<B, 2>) -> Tensor<B, 2> {
    let wide = in_float32(x.clone());
    in_dtype(wide.clone() * sigmoid(wide.mul_scalar(QUICK)), x.dtype())
}

/// The gradient of its input: `dy (σ + 1.702 x σ (1 − σ))`.
pub(crate) fn quick_gelu_backward<B: Backend>(x: &Tensor<B, 2>, dy: Tensor<B, 2>) -> Tensor<B, 2> {
    let wide = in_float32(x.clone());
    let gate = sigmoid(wide.clone().mul_scalar(QUICK));
    let slope = wide.mul_scalar(QUICK) * gate.clone() * gate.clone().neg().add_scalar(1.0);
    in_dtype(in_float32(dy) * (gate + slope), x.dtype())
}

/// `x Φ(x)`, with the error function.
pub(crate) fn gelu<B: Backend>(x: &Tensor<B, 2>) -> Tensor<B, 2> {
    let wide = in_float32(x.clone());
    in_dtype(wide.clone() * normal(wide), x.dtype())
}

/// The gradient of its input: `dy (Φ(x) + x φ(x))`.
pub(crate) fn gelu_backward<B: Backend>(x: &Tensor<B, 2>, dy: Tensor<B, 2>) -> Tensor<B, 2> {
    let wide = in_float32(x.clone());
    let square = wide.clone() * wide.clone();
    let density = square.mul_scalar(-0.5).exp().div_scalar((2.0 * PI).sqrt());
    in_dtype(in_float32(dy) * (normal(wide.clone()) + wide * density), x.dtype())
}

/// Φ: the share of a standard normal number's draws below `x`.
fn normal<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    x.mul_scalar(FRAC_1_SQRT_2).erf().add_scalar(1.0).mul_scalar(0.5)
}

#[cfg(test)]
mod tests {
    use burn_flex::Flex;
    use rstest::rstest;

    use super::*;

    type Map = fn(&Tensor<Flex, 2>) -> Tensor<Flex, 2>;
    type Back = fn(&Tensor<Flex, 2>, Tensor<Flex, 2>) -> Tensor<Flex, 2>;

    const INPUTS: [f32; 6] = [-4.0, -1.5, -0.1, 0.0, 0.7, 3.0];

    fn tensor(values: [f32; 6]) -> Tensor<Flex, 2> {
        Tensor::from_data([values], &Default::default())
    }

    #[rstest]
    #[case::quick(quick_gelu, quick_gelu_backward)]
    #[case::erf(gelu, gelu_backward)]
    fn the_gradient_is_that_of_small_differences(#[case] map: Map, #[case] back: Back) {
        let step = 1e-3;
        let at = |shift: f32| map(&tensor(INPUTS.map(|x| x + shift))).into_data().iter::<f32>().collect::<Vec<_>>();
        let found: Vec<f32> = back(&tensor(INPUTS), tensor([1.0; 6])).into_data().iter().collect();
        for ((up, down), found) in at(step).into_iter().zip(at(-step)).zip(found) {
            assert!(((up - down) / (2.0 * step) - found).abs() < 1e-3, "{up} {down} {found}");
        }
    }

    #[test]
    fn values_are_those_of_their_formulas() {
        let found: Vec<f32> = gelu(&tensor(INPUTS)).into_data().iter().collect();
        // 1.5 · 0.0668072 and 0.7 · 0.7580363, by tables of the normal distribution.
        assert!((found[1] + 0.100_210_8).abs() < 1e-6 && (found[4] - 0.530_625_4).abs() < 1e-6, "{found:?}");
        let found: Vec<f32> = quick_gelu(&tensor(INPUTS)).into_data().iter().collect();
        let expected = INPUTS.map(|x| f64::from(x) / (1.0 + (-1.702 * f64::from(x)).exp()));
        assert!(found.iter().zip(expected).all(|(found, expected)| (f64::from(*found) - expected).abs() < 1e-6));
    }
}
