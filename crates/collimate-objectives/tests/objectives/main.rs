//! Checks every objective against PyTorch's values, dfdx, finite differences, closed forms and the laws.

mod cca;
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

/// Tolerance against PyTorch in float64: absolute below 1, relative above.
const GOLDEN: f64 = 1e-10;
/// Tolerance between float64 sums in different orders.
const EXACT: f64 = 1e-12;

/// Names of the registered objectives, sorted: those of this crate, since no other is linked.
fn names() -> Vec<&'static str> {
    registry::all().into_iter().map(|plugin| plugin.name).collect()
}

fn table(params: Value) -> Map<String, Value> {
    params.as_object().cloned().expect("parameters are an object")
}

fn run(name: &str, params: Value, groups: &[GroupScores]) -> Evaluation {
    let objective = registry::build(name, &table(params)).expect("the objective builds");
    evaluate(objective.as_ref(), groups).expect("the groups are valid")
}

/// A group with log-ratios `h` and 10 tokens per response.
fn group(h: &[f64], rewards: &[f64]) -> GroupScores {
    GroupScores {
        policy_logps: h.iter().map(|h| -20.0 + h).collect(),
        reference_logps: Some(vec![-20.0; h.len()]),
        rewards: rewards.to_vec(),
        lengths: vec![10; h.len()],
    }
}

/// Rewards whose softmax at temperature 1 is `weights`.
fn rewards_with_softmax(weights: &[f64]) -> Vec<f64> {
    weights.iter().map(|w| w.ln()).collect()
}

fn assert_close(found: f64, expected: f64, tolerance: f64, location: &str) {
    assert!(
        (found - expected).abs() <= tolerance * expected.abs().max(1.0),
        "{location}: {found}, expected {expected}"
    );
}

fn assert_rows(found: &[Vec<f64>], expected: &[Vec<f64>], tolerance: f64, location: &str) {
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), expected.iter().map(Vec::len).collect::<Vec<_>>());
    for (b, (found, expected)) in found.iter().zip(expected).enumerate() {
        for (k, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert_close(*found, *expected, tolerance, &format!("{location} [{b}][{k}]"));
        }
    }
}
