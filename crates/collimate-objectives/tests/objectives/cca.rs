//! Condition contrastive alignment: PyTorch's values, both published forms, and the draw of rows.

use std::f64::consts::LN_2;

use collimate_objective::{
    GroupScores, Objective, StepRows,
    serde::Deserialize,
    serde_json::{self, Value, json},
};
use collimate_objectives::Cca;

use crate::{EXACT, GOLDEN, assert_close, assert_rows, group, run};

/// A micro-batch of `cca.json`: losses and gradients that PyTorch computed in float64.
#[derive(Deserialize)]
#[serde(crate = "collimate_objective::serde")]
struct Batch {
    params: Value,
    counts_as_positive: Vec<bool>,
    policy_logps: Vec<f64>,
    reference_logps: Vec<f64>,
    policy_negative_logps: Vec<f64>,
    reference_negative_logps: Vec<f64>,
    loss: Vec<f64>,
    mean_loss: f64,
    grad_of_mean: Vec<f64>,
    negative_grad_of_mean: Vec<f64>,
}

/// A row as the trainer builds it: own condition, negative condition.
fn pair(policy: [f64; 2], reference: [f64; 2], is_same: bool) -> GroupScores {
    GroupScores {
        policy_logps: policy.into(),
        reference_logps: Some(reference.into()),
        rewards: vec![1.0, f64::from(u8::from(is_same))],
        lengths: vec![16, 16],
    }
}

#[test]
fn losses_and_both_gradients_match_pytorch() {
    let rows: Vec<Batch> = serde_json::from_str(include_str!("cca.json")).expect("the golden file is JSON");
    assert!(rows.len() >= 16 && rows.iter().any(|row| row.counts_as_positive.contains(&true)));
    for (index, row) in rows.iter().enumerate() {
        let groups: Vec<GroupScores> = (0..row.loss.len())
            .map(|b| {
                let policy = [row.policy_logps[b], row.policy_negative_logps[b]];
                let reference = [row.reference_logps[b], row.reference_negative_logps[b]];
                pair(policy, reference, row.counts_as_positive[b])
            })
            .collect();
        let found = run("cca", json!({"beta": row.params["beta"], "lambda": row.params["lambda_"]}), &groups);
        let expected = row.grad_of_mean.iter().zip(&row.negative_grad_of_mean).map(|(own, other)| vec![*own, *other]);
        let location = format!("row {index}");
        assert_close(found.mean_loss(), row.mean_loss, GOLDEN, &location);
        assert_rows(&[found.losses], std::slice::from_ref(&row.loss), GOLDEN, &location);
        assert_rows(&found.coefficients, &expected.collect::<Vec<_>>(), GOLDEN, &location);
    }
}

#[test]
fn the_published_code_differs_from_the_formula_where_conditions_are_equal_and_by_the_scale() {
    let groups = [pair([0.0; 2], [0.0; 2], false), pair([0.0; 2], [0.0; 2], true)];
    let losses = |form: &str, lambda: f64| run("cca", json!({"lambda": lambda, "form": form}), &groups).losses;
    assert_rows(&[losses("code", 4.0)], &[vec![(1.0 + 4.0) * LN_2 / 4.0, 2.0 * LN_2 / 4.0]], EXACT, "code");
    assert_rows(&[losses("formula", 4.0)], &[vec![(1.0 + 4.0) * LN_2, LN_2]], EXACT, "formula");
    assert_rows(&[losses("code", 0.5)], &[vec![1.5 * LN_2, 2.0 * LN_2]], EXACT, "code, small lambda");
}

#[test]
fn several_responses_to_a_condition_count_with_their_mean() {
    let two = group(&[1.0, -2.0, 3.0, 0.5], &[1.0, 1.0, 0.0, 0.0]);
    let found = run("cca", json!({"beta": 1.0, "lambda": 2.0}), &[two]);
    let single = |own: f64, other: f64| group(&[own, other], &[1.0, 0.0]);
    let apart = run("cca", json!({"beta": 1.0, "lambda": 2.0}), &[single(1.0, 3.0), single(-2.0, 0.5)]);
    assert_close(found.losses[0], apart.mean_loss(), EXACT, "loss");
}

#[test]
fn a_share_of_rows_is_drawn_from_seed_and_step_unless_it_is_given() {
    let rows = StepRows { seed: 7, step: 3, count: 10_000 };
    let masked = Cca::default().unconditional_rows(rows);
    assert_eq!((masked.len(), &masked), (rows.count, &Cca::default().unconditional_rows(rows)));
    let share = masked.iter().filter(|masked| **masked).count() as f64 / rows.count as f64;
    assert!((share - 0.1).abs() < 0.015, "{share}");
    assert_ne!(masked, Cca::default().unconditional_rows(StepRows { step: 4, ..rows }));
    let given = Cca { masked: Some(vec![vec![true, false], vec![false]]), ..Cca::default() };
    let of_step = |step| given.unconditional_rows(StepRows { seed: 7, step, count: 3 });
    assert_eq!([of_step(0), of_step(1), of_step(2)], [vec![true, false, false], vec![false; 3], vec![false; 3]]);
}

#[test]
fn shares_and_forms_are_checked() {
    let problem = |params: Value| {
        let params = params.as_object().cloned().expect("an object");
        collimate_objective::registry::build("cca", &params).expect_err("refused").to_string()
    };
    assert!(
        problem(json!({"uncond_ratio": 1.5})).contains("uncond_ratio"),
        "{}",
        problem(json!({"uncond_ratio": 1.5}))
    );
    assert!(problem(json!({"form": "paper"})).contains("form"));
}
