//! Every objective against PyTorch's numbers, dfdx, finite differences, closed forms and the laws.

mod closed_forms;
mod golden;
mod gradients;
mod laws;
mod recipes;

use collimate_objective::{
    Evaluation, GroupScores, evaluate, registry,
    serde_json::{Map, Value},
};
use collimate_objectives as _;

/// Agreement with PyTorch in float64: absolute up to 1, relative beyond.
const GOLDEN: f64 = 1e-10;
/// Agreement of float64 sums done in another order.
const EXACT: f64 = 1e-12;

const NAMES: [&str; 24] = [
    "aot",
    "aot_unpaired",
    "apo_down",
    "apo_zero",
    "bco_pair",
    "combine",
    "cpo",
    "discopop",
    "dpo",
    "exo_pair",
    "hinge",
    "infonca",
    "ipo",
    "kto",
    "lipo_lambda",
    "nca",
    "nca_pair",
    "orpo",
    "plackett_luce",
    "robust",
    "rrhf",
    "sft",
    "simpo",
    "sppo_hard",
];

fn table(params: Value) -> Map<String, Value> {
    params.as_object().cloned().expect("parameters are an object")
}

fn run(name: &str, params: Value, groups: &[GroupScores]) -> Evaluation {
    let objective = registry::build(name, &table(params)).expect("the objective builds");
    evaluate(objective.as_ref(), groups).expect("the groups are valid")
}

/// A group with log-ratio h (β = 1 where the test says so) and 10 tokens a response.
fn group(h: &[f64], rewards: &[f64]) -> GroupScores {
    GroupScores {
        policy_logps: h.iter().map(|h| -20.0 + h).collect(),
        reference_logps: Some(vec![-20.0; h.len()]),
        rewards: rewards.to_vec(),
        lengths: vec![10; h.len()],
    }
}

/// Rewards whose softmax at temperature 1 is `weights`.
fn rewards_of(weights: &[f64]) -> Vec<f64> {
    weights.iter().map(|w| w.ln()).collect()
}

fn assert_close(found: f64, expected: f64, tolerance: f64, place: &str) {
    assert!((found - expected).abs() <= tolerance * expected.abs().max(1.0), "{place}: {found}, expected {expected}");
}

fn assert_rows(found: &[Vec<f64>], expected: &[Vec<f64>], tolerance: f64, place: &str) {
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), expected.iter().map(Vec::len).collect::<Vec<_>>());
    for (b, (found, expected)) in found.iter().zip(expected).enumerate() {
        for (k, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert_close(*found, *expected, tolerance, &format!("{place} [{b}][{k}]"));
        }
    }
}
