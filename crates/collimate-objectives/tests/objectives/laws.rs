//! Properties that hold for every input.

use collimate_objective::{
    conformance, holds_likelihood, registry,
    serde_json::{Map, Value, json},
};
use proptest::prelude::*;
use rstest::rstest;

use crate::{group, names, run, table};

#[test]
fn the_laws_hold_for_every_objective() {
    for name in names() {
        if let Err(failure) = conformance::check(name) {
            panic!("{name}: {failure}");
        }
    }
}

#[rstest]
#[case("nca", json!({"beta": 0.01, "alpha": 1e-4}))]
#[case("infonca", json!({"beta": 5.0, "alpha": 1e-300}))]
#[case("dpo", json!({"beta": 1.0, "label_smoothing": 0.4}))]
#[case("dpo", json!({"beta": 1.0, "f_divergence_type": "forward_kl"}))]
#[case("hinge", json!({"beta": 1.0, "f_divergence_type": "js_divergence"}))]
#[case("ipo", json!({"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.25}))]
#[case("dpo_norm", json!({"beta": 1.0, "f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 1.5}))]
#[case("rebel", json!({"beta": 0.5}))]
#[case("rpo", json!({"beta": 2.0, "eta": 0.0}))]
#[case("exo_pair", json!({"beta": 1.0, "label_smoothing": 1e-12}))]
#[case("discopop", json!({"beta": 1.0, "tau": 1.0}))]
#[case("simpo", json!({"beta": 2.0, "gamma": 0.0}))]
#[case("plackett_luce", json!({"beta": 2.0}))]
#[case("lipo_lambda", json!({"beta": 1.0}))]
#[case("kto", json!({"beta": 1.0, "desirable_weight": 0.0, "undesirable_weight": 1.5}))]
#[case("aot", json!({"beta": 1.0}))]
#[case("aot_unpaired", json!({"beta": 5.0}))]
#[case("combine", json!({"terms": [{"name": "infonca", "weight": 0.5}, {"name": "orpo", "beta": 2.0}]}))]
fn the_laws_hold_away_from_the_defaults(#[case] name: &str, #[case] params: Value) {
    let objective = registry::build(name, &table(params)).expect("the objective builds");
    if let Err(failure) = conformance::check_objective(objective.as_ref()) {
        panic!("{name}: {failure}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn infonca_ignores_a_shift_and_its_gradient_sums_to_zero(
        h in prop::collection::vec(-8.0..8.0f64, 2..7), shift in -50.0..50.0f64, seed in 0..100usize,
    ) {
        let rewards: Vec<f64> = (0..h.len()).map(|i| ((i * 7 + seed) % 11) as f64 / 10.0).collect();
        let shifted: Vec<f64> = h.iter().map(|h| h + shift).collect();
        let (plain, moved) =
            (run("infonca", json!({}), &[group(&h, &rewards)]), run("infonca", json!({}), &[group(&shifted, &rewards)]));
        prop_assert!((plain.losses[0] - moved.losses[0]).abs() < 1e-11);
        prop_assert!(plain.coefficients[0].iter().sum::<f64>().abs() < 1e-12);
    }

    #[test]
    fn nca_has_the_papers_gradient(
        h in prop::collection::vec(-4.0..4.0f64, 2..7), rewards in prop::collection::vec(0.0..1.0f64, 7),
    ) {
        let rewards = &rewards[..h.len()];
        let total: f64 = rewards.iter().map(|r| (r / 0.33).exp()).sum();
        let found = run("nca", json!({"beta": 1.0}), &[group(&h, rewards)]);
        for ((h, r), c) in h.iter().zip(rewards).zip(&found.coefficients[0]) {
            let (weight, sigma) = ((r / 0.33).exp() / total, 1.0 / (1.0 + (-h).exp()));
            let expected = -weight * (1.0 - sigma) + sigma / rewards.len() as f64;
            prop_assert!((c - expected).abs() < 1e-12, "{c} {expected}");
        }
    }

    #[test]
    fn losses_are_finite_and_never_negative(
        h in prop::collection::vec(-100.0..100.0f64, 2..7), rewards in prop::collection::vec(0.0..1.0f64, 7),
    ) {
        let names = ["nca", "infonca", "dpo", "hinge", "ipo", "bco_pair", "apo_zero", "simpo", "nca_pair", "sppo_hard"];
        for name in names.into_iter().chain(["plackett_luce", "lipo_lambda", "kto", "aot", "aot_unpaired"]) {
            let loss = run(name, json!({}), &[group(&h, &rewards[..h.len()])]).losses[0];
            prop_assert!(loss.is_finite() && loss >= 0.0, "{name}: {loss}");
        }
    }
}

#[test]
fn only_objectives_with_an_absolute_scale_hold_the_likelihood() {
    let holding: Vec<&str> = names()
        .into_iter()
        .filter(|name| holds_likelihood(registry::build(name, &Map::new()).expect("the objective builds").as_ref()))
        .collect();
    let expected = ["bco_pair", "combine", "cpo", "nca", "nca_pair", "orpo", "rrhf", "sft", "sppo_hard"];
    assert_eq!(holding, expected);
    let sum = |terms: Value| registry::build("combine", &table(json!({"terms": terms}))).expect("the objective builds");
    assert!(!holds_likelihood(sum(json!([{"name": "dpo"}, {"name": "infonca"}])).as_ref()));
    assert!(holds_likelihood(sum(json!([{"name": "dpo"}, {"name": "sft", "weight": 0.01}])).as_ref()));
}
