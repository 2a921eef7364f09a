//! Gradients against dfdx and finite differences.

use collimate_objective::{
    conformance, evaluate, registry,
    serde_json::{Map, json},
};
use collimate_oracle::{LossAndGradient, OracleGroup};
use rstest::rstest;

use crate::{EXACT, assert_rows, group, run};

#[rstest]
#[case("nca")]
#[case("infonca")]
#[case("dpo")]
fn gradients_match_dfdx(#[case] name: &str) {
    let objective = registry::build(name, &Map::new()).expect("defaults build");
    let groups = conformance::sample_groups(objective.as_ref(), 7);
    let plain: Vec<OracleGroup> = groups
        .iter()
        .map(|g| OracleGroup {
            policy_logps: g.policy_logps.clone(),
            reference_logps: g.reference_logps.clone().expect("sampled with a reference"),
            rewards: g.rewards.clone(),
        })
        .collect();
    let LossAndGradient { losses, coefficients } = match name {
        "nca" => collimate_oracle::nca(&plain, 0.1, 0.33),
        "infonca" => collimate_oracle::infonca(&plain, 0.1, 0.33),
        _ => collimate_oracle::dpo(&plain, 0.1),
    };
    let found = evaluate(objective.as_ref(), &groups).expect("the groups are valid");
    assert_rows(&[found.losses], &[losses], EXACT, name);
    assert_rows(&found.coefficients, &coefficients, EXACT, name);
}

#[test]
fn nca_gradient_matches_central_differences() {
    let (h, rewards) = ([0.3, -1.2, 2.0], [0.1, 0.9, 0.4]);
    let params = json!({"beta": 0.7, "alpha": 0.5});
    let loss = |h: &[f64]| run("nca", params.clone(), &[group(h, &rewards)]).losses[0];
    let expected = collimate_oracle::central_differences(loss, &h, 1e-4);
    assert_rows(&run("nca", params.clone(), &[group(&h, &rewards)]).coefficients, &[expected], 1e-8, "nca");
}
