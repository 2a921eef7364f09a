//! AdamW on a number, and what its options do.

use burn_flex::Flex;

use super::*;

fn options() -> UpdateOptions {
    UpdateOptions {
        learning_rate: 0.1,
        max_grad_norm: 0.0,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.01,
        decay_norms: true,
        apply: true,
    }
}

fn scalar(x: f32) -> Tensor<Flex, 2> {
    Tensor::from_data([[x]], &Default::default())
}

#[test]
fn two_steps_follow_the_formula() {
    let mut adam = AdamW::new(1);
    let (mut p, mut m, mut v) = (2.0f64, 0.0f64, 0.0f64);
    let mut tensor = scalar(2.0);
    for (t, g) in [(1, 0.5f64), (2, -0.25)] {
        adam.begin_step();
        tensor = adam.update(0, tensor, &scalar(2.0 * g as f32), 0.5, &options());
        m = 0.9 * m + 0.1 * g;
        v = 0.999 * v + 0.001 * g * g;
        let (m_hat, v_hat) = (m / (1.0 - 0.9f64.powi(t)), v / (1.0 - 0.999f64.powi(t)));
        p = p * (1.0 - 0.1 * 0.01) - 0.1 * m_hat / (v_hat.sqrt() + 1e-8);
    }
    let found: f32 = tensor.into_scalar();
    assert!((f64::from(found) - p).abs() < 1e-6, "{found} against {p}");
}

#[test]
fn norms_and_biases_are_spared_if_the_options_say_so() {
    let spared = UpdateOptions { decay_norms: false, ..options() };
    for name in ["model.norm.weight", "model.layers.0.input_layernorm.weight", "layers.0.self_attn.q_norm.weight"] {
        assert_eq!(
            (options().for_parameter(name).weight_decay, spared.for_parameter(name).weight_decay),
            (0.01, 0.0),
            "{name}"
        );
    }
    assert_eq!(spared.for_parameter("model.layers.0.self_attn.q_proj.bias").weight_decay, 0.0);
    assert_eq!(spared.for_parameter("model.layers.0.self_attn.q_proj.weight").weight_decay, 0.01);
}

#[test]
fn clipping_scales_to_the_limit_and_never_up() {
    assert_eq!(clip_factor(0.5, 1.0), 1.0);
    assert!((clip_factor(4.0, 1.0) - 1.0 / 4.0).abs() < 1e-6);
    assert_eq!(clip_factor(4.0, 0.0), 1.0);
}
