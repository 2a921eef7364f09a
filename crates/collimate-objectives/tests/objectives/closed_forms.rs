//! Values known on paper.

use std::f64::consts::LN_2;

use collimate_objective::{GroupScores, serde_json::json};
use rstest::rstest;

use crate::{EXACT, assert_close, assert_rows, group, rewards_of, run};

#[rstest]
fn losses_at_the_reference(#[values(2, 3, 4, 7)] k: usize) {
    let rewards: Vec<f64> = (0..k).map(|i| i as f64 / k as f64).collect();
    let start = [group(&vec![0.0; k], &rewards)];
    let weights = run("infonca", json!({}), &start).coefficients[0].clone();
    assert_close(run("nca", json!({}), &start).losses[0], 2.0 * LN_2, EXACT, "nca");
    assert_close(run("infonca", json!({}), &start).losses[0], (k as f64).ln(), EXACT, "infonca");
    assert_close(run("dpo", json!({}), &start).losses[0], LN_2, EXACT, "dpo");
    assert_close(run("nca_pair", json!({}), &start).losses[0], 2.0 * LN_2, EXACT, "nca_pair");
    assert_close(run("apo_zero", json!({}), &start).losses[0], 1.0, EXACT, "apo_zero");
    // Gradients in h: NCA 1/(2K) − w/2, InfoNCA 1/K − w: NCA's is half of InfoNCA's.
    let halves: Vec<f64> = weights.iter().map(|c| c / 2.0).collect();
    assert_rows(&run("nca", json!({}), &start).coefficients, &[halves], EXACT, "nca at the reference");
}

#[rstest]
#[case(2, 0.954771)]
#[case(4, 0.625503)]
fn the_lowest_nca_loss_with_all_weight_on_one_response(#[case] k: usize, #[case] expected: f64) {
    let mut rewards = vec![0.0; k];
    rewards[0] = 1.0;
    // h_1 = ln K; the others go to −∞, where −log σ(−h) is 0.
    let mut h = vec![-60.0; k];
    h[0] = (k as f64).ln();
    let found = run("nca", json!({"beta": 1.0, "alpha": 1e-4}), &[group(&h, &rewards)]);
    assert_close(found.losses[0], expected, 1e-6, "loss");
    found.coefficients[0].iter().for_each(|c| assert_close(*c, 0.0, 1e-12, "gradient"));
}

#[test]
fn the_optimum_of_nca_is_log_k_w() {
    let weights = [0.5, 0.3, 0.15, 0.05];
    let h: Vec<f64> = weights.iter().map(|w: &f64| (4.0 * w).ln()).collect();
    let found = run("nca", json!({"beta": 1.0, "alpha": 1.0}), &[group(&h, &rewards_of(&weights))]);
    assert_close(found.losses[0], 1.256134, 1e-6, "loss");
    found.coefficients[0].iter().for_each(|c| assert_close(*c, 0.0, 1e-12, "gradient"));
}

#[test]
fn infonca_with_two_responses_and_one_hot_weights_is_dpo() {
    let groups = [group(&[0.4, -1.0], &[1.0, 0.0]), group(&[2.0, 3.0], &[0.0, 1.0])];
    let dpo = run("dpo", json!({}), &groups);
    let infonca = run("infonca", json!({"alpha": 1e-4}), &groups);
    assert_rows(&[infonca.losses], &[dpo.losses], EXACT, "loss");
    assert_rows(&infonca.coefficients, &dpo.coefficients, EXACT, "gradient");
}

#[test]
fn nca_with_two_responses_and_one_hot_weights_is_nca_pair() {
    let groups = [group(&[0.4, -1.0], &[1.0, 0.0]), group(&[2.0, 3.0], &[0.0, 1.0])];
    let (whole, pair) = (run("nca", json!({"alpha": 1e-4}), &groups), run("nca_pair", json!({}), &groups));
    assert_rows(&[whole.losses], &[pair.losses], EXACT, "loss");
    assert_rows(&whole.coefficients, &pair.coefficients, EXACT, "gradient");
}

#[test]
fn pairs_are_the_first_maximum_and_the_last_minimum() {
    let tied = group(&[0.0, 0.0, 0.0, 0.0], &[0.2, 0.9, 0.9, 0.2]);
    let coefficients = &run("dpo", json!({}), &[tied]).coefficients[0];
    assert_rows(std::slice::from_ref(coefficients), &[vec![0.0, -0.05, 0.0, 0.05]], EXACT, "dpo");
    let equal = group(&[0.0, 0.0], &[0.5, 0.5]);
    assert_rows(&run("dpo", json!({}), &[equal]).coefficients, &[vec![-0.05, 0.05]], EXACT, "dpo, equal rewards");
}

#[test]
fn sft_takes_a_single_response_without_a_reference() {
    let single = GroupScores { reference_logps: None, ..group(&[0.0], &[0.0]) };
    let found = run("sft", json!({}), &[single]);
    assert_eq!((found.losses, found.coefficients), (vec![20.0 / 10.0], vec![vec![-1.0 / 10.0]]));
}

#[test]
fn combine_is_the_weighted_sum() {
    let groups = [group(&[0.4, -1.0, 0.2], &[1.0, 0.0, 0.5])];
    let nca = run("nca", json!({"beta": 0.3}), &groups);
    let sft = run("sft", json!({}), &groups);
    let terms = json!({"terms": [{"name": "nca", "weight": 2.0, "beta": 0.3}, {"name": "sft", "weight": 0.5}]});
    let both = run("combine", terms, &groups);
    let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| 2.0 * a + 0.5 * b).collect::<Vec<f64>>();
    assert_rows(&[both.losses], &[sum(&nca.losses, &sft.losses)], EXACT, "loss");
    assert_rows(&both.coefficients, &[sum(&nca.coefficients[0], &sft.coefficients[0])], EXACT, "gradient");
    assert_eq!(both.implicit_rewards, nca.implicit_rewards);
}
