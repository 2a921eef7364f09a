//! PyTorch's numbers, dfdx and finite differences.

use collimate_objective::{
    GroupScores, conformance, evaluate, registry,
    serde_json::{self, Map, Value, json},
    values,
};
use collimate_oracle::{LossAndGradient, OracleGroup, objective_rows};
use rstest::rstest;

use crate::{EXACT, GOLDEN, assert_close, assert_rows, group, run};

#[test]
fn losses_and_gradients_are_those_of_pytorch() {
    let rows = objective_rows().expect("the golden file is read");
    let mut covered: Vec<String> = rows.iter().map(|row| row.objective.clone()).collect();
    covered.dedup();
    assert_eq!((rows.len(), covered.len()), (76, 16));
    for (index, row) in rows.into_iter().enumerate() {
        let groups: Vec<GroupScores> = (0..row.loss.len())
            .map(|b| GroupScores {
                policy_logps: row.policy_logps[b].clone(),
                reference_logps: Some(row.reference_logps[b].clone()),
                rewards: row.rewards[b].clone(),
                lengths: row.lengths[b].clone(),
            })
            .collect();
        let place = format!("row {index}, {} {:?}", row.objective, row.params);
        let found = run(&row.objective, Value::Object(row.params), &groups);
        assert_rows(std::slice::from_ref(&found.losses), &[row.loss], GOLDEN, &place);
        assert_rows(&found.coefficients, &row.grad_of_mean, GOLDEN, &place);
        assert_close(found.mean_loss(), row.mean_loss, GOLDEN, &place);
    }
}

#[test]
fn rows_read_as_text_give_pytorchs_numbers_to_an_absolute_1e_10() {
    let path = collimate_oracle::golden_dir().join("objectives.json");
    let text = std::fs::read_to_string(path).expect("the golden file is read");
    let golden: Vec<Value> = serde_json::from_str(&text).expect("the golden file is JSON");
    for (index, (found, golden)) in values::evaluate_rows(&text).expect("valid rows").iter().zip(&golden).enumerate() {
        for field in ["loss", "grad_of_mean", "mean_loss"] {
            let (found, golden) = (flat(&found[field]), flat(&golden[field]));
            assert_eq!(found.len(), golden.len());
            let worst = found.iter().zip(&golden).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst <= 1e-10, "row {index}, {field}: {worst}");
        }
    }
}

fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(flat).collect(),
        number => vec![number.as_f64().expect("a number")],
    }
}

#[rstest]
#[case("nca")]
#[case("infonca")]
#[case("dpo")]
fn gradients_are_those_of_dfdx(#[case] name: &str) {
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
fn nca_gradient_is_that_of_central_differences() {
    let (h, rewards) = ([0.3, -1.2, 2.0], [0.1, 0.9, 0.4]);
    let params = json!({"beta": 0.7, "alpha": 0.5});
    let loss = |h: &[f64]| run("nca", params.clone(), &[group(h, &rewards)]).losses[0];
    let expected = collimate_oracle::central_differences(loss, &h, 1e-4);
    assert_rows(&run("nca", params.clone(), &[group(&h, &rewards)]).coefficients, &[expected], 1e-8, "nca");
}
