//! Comparison with PyTorch.

use collimate_objective::{
    GroupScores,
    serde_json::{self, Value},
    values,
};
use collimate_oracle::objective_rows;

use crate::{GOLDEN, assert_close, assert_rows, run};

#[test]
fn losses_and_gradients_match_pytorch() {
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
        let location = format!("row {index}, {} {:?}", row.objective, row.params);
        let found = run(&row.objective, Value::Object(row.params), &groups);
        assert_rows(std::slice::from_ref(&found.losses), &[row.loss], GOLDEN, &location);
        assert_rows(&found.coefficients, &row.grad_of_mean, GOLDEN, &location);
        assert_close(found.mean_loss(), row.mean_loss, GOLDEN, &location);
    }
}

#[test]
fn rows_read_as_text_match_pytorch_to_an_absolute_1e_10() {
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
