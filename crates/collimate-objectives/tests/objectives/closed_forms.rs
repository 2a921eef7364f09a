//! Values derived on paper.

use std::f64::consts::LN_2;

use collimate_objective::{GroupScores, registry, serde_json::json};
use rstest::rstest;

use crate::{EXACT, assert_close, assert_rows, group, rewards_with_softmax, run};

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
fn the_minimum_of_nca_with_all_weight_on_one_response(#[case] k: usize, #[case] expected: f64) {
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
    let found = run("nca", json!({"beta": 1.0, "alpha": 1.0}), &[group(&h, &rewards_with_softmax(&weights))]);
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
fn the_pair_is_the_first_maximum_and_the_last_minimum() {
    let tied = group(&[0.0, 0.0, 0.0, 0.0], &[0.2, 0.9, 0.9, 0.2]);
    let coefficients = &run("dpo", json!({}), &[tied]).coefficients[0];
    assert_rows(std::slice::from_ref(coefficients), &[vec![0.0, -0.05, 0.0, 0.05]], EXACT, "dpo");
    let equal = group(&[0.0, 0.0], &[0.5, 0.5]);
    assert_rows(&run("dpo", json!({}), &[equal]).coefficients, &[vec![-0.05, 0.05]], EXACT, "dpo, equal rewards");
}

#[test]
fn sft_accepts_a_single_response_without_a_reference() {
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

#[rstest]
fn plackett_luce_is_ln_k_factorial_at_the_reference_and_zero_when_certain(#[values(2, 3, 5)] k: usize) {
    let rewards: Vec<f64> = (0..k).map(|i| -(i as f64)).collect();
    let ln_factorial: f64 = (1..=k).map(|i| (i as f64).ln()).sum();
    assert_close(
        run("plackett_luce", json!({}), &[group(&vec![0.0; k], &rewards)]).losses[0],
        ln_factorial,
        EXACT,
        "h = 0",
    );
    let certain: Vec<f64> = rewards.iter().map(|r| 100.0 * r).collect();
    assert_close(
        run("plackett_luce", json!({"beta": 1.0}), &[group(&certain, &rewards)]).losses[0],
        0.0,
        EXACT,
        "sorted",
    );
}

#[test]
fn plackett_luce_of_two_responses_and_aot_of_one_prompt_are_dpo() {
    let one = [group(&[0.4, -1.0], &[1.0, 0.0])];
    let dpo = run("dpo", json!({}), &one);
    for name in ["plackett_luce", "aot", "aot_unpaired"] {
        let found = run(name, json!({}), &one);
        assert_rows(&[found.losses], std::slice::from_ref(&dpo.losses), EXACT, name);
        assert_rows(&found.coefficients, &dpo.coefficients, EXACT, name);
    }
}

#[test]
fn aot_compares_by_rank_within_the_step() {
    // Margins 1 and 3 under the policy; the reference's are 0 and 0. Unpaired: best 2 and 0, worst 1 and -3.
    let groups = [group(&[2.0, 1.0], &[1.0, 0.0]), group(&[0.0, -3.0], &[1.0, 0.0])];
    let cost = |difference: f64| (1.0 + (-difference).exp()).ln();
    assert_rows(&[run("aot", json!({"beta": 1.0}), &groups).losses], &[vec![cost(1.0), cost(3.0)]], EXACT, "aot");
    let unpaired = run("aot_unpaired", json!({"beta": 1.0}), &groups);
    // The higher best, 2, is matched with the higher worst, 1; the lower best, 0, with -3.
    assert_rows(&[unpaired.losses], &[vec![cost(1.0), cost(3.0)]], EXACT, "aot_unpaired");
    let crossed = [group(&[0.0, 1.0], &[1.0, 0.0]), group(&[2.0, -3.0], &[1.0, 0.0])];
    let unpaired = run("aot_unpaired", json!({"beta": 1.0}), &crossed);
    assert_rows(&[unpaired.losses], &[vec![cost(3.0), cost(1.0)]], EXACT, "crossed");
}

#[test]
fn ktos_reference_point_is_the_mean_log_ratio_of_the_step_and_has_no_gradient() {
    let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
    let slope = |x: f64| sigma(x) * sigma(-x);
    // Mean over the five responses: (2 + 1 + 0 + 4 - 2) / 5 = 1.
    let groups = [group(&[2.0, 1.0, 0.0], &[1.0, 0.5, 0.0]), group(&[4.0, -2.0], &[1.0, 0.0])];
    let params = json!({"beta": 1.0, "desirable_weight": 2.0, "undesirable_weight": 0.5});
    let found = run("kto", params, &groups);
    let losses = vec![2.0 * sigma(-1.0) + 0.5 * sigma(-1.0), 2.0 * sigma(-3.0) + 0.5 * sigma(-3.0)];
    assert_rows(&[found.losses], &[losses], EXACT, "loss");
    let first = vec![-2.0 * slope(1.0) / 2.0, 0.0, 0.5 * slope(1.0) / 2.0];
    let second = vec![-2.0 * slope(3.0) / 2.0, 0.5 * slope(3.0) / 2.0];
    assert_rows(&found.coefficients, &[first, second], EXACT, "gradient");
    // A negative mean is clamped to zero.
    let lowered = run("kto", json!({"beta": 1.0}), &[group(&[-1.0, -3.0], &[1.0, 0.0])]);
    assert_close(lowered.losses[0], sigma(1.0) + sigma(-3.0), EXACT, "z = 0");
}

#[test]
fn ktos_published_reference_point_is_the_mean_over_mismatched_pairs() {
    let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
    let slope = |x: f64| sigma(x) * sigma(-x);
    let params = json!({"beta": 1.0, "reference_point": "mismatched"});
    // Responses under their own prompts, then under others: z = (5 - 1 + 1 + 3 + 2) / 5 = 2, whatever the step's own are.
    let groups = [
        group(&[2.0, 1.0, 0.0, 5.0, -1.0, 1.0], &[1.0, 0.5, 0.0, 1.0, 0.5, 0.0]),
        group(&[4.0, -2.0, 3.0, 2.0], &[1.0, 0.0, 1.0, 0.0]),
    ];
    let found = run("kto", params.clone(), &groups);
    assert_rows(&[found.losses], &[vec![sigma(0.0) + sigma(-2.0), sigma(-2.0) + sigma(-4.0)]], EXACT, "loss");
    let first = vec![-slope(0.0) / 2.0, 0.0, slope(2.0) / 2.0, 0.0, 0.0, 0.0];
    let second = vec![-slope(2.0) / 2.0, slope(4.0) / 2.0, 0.0, 0.0];
    assert_rows(&found.coefficients, &[first, second], EXACT, "no gradient through z");
    assert_rows(
        &found.implicit_rewards,
        &[vec![2.0, 1.0, 0.0], vec![4.0, -2.0]],
        EXACT,
        "of the group's own responses",
    );
    let lowered = run("kto", params, &[group(&[-1.0, -3.0, -2.0, -5.0], &[1.0, 0.0, 1.0, 0.0])]);
    assert_close(lowered.losses[0], sigma(1.0) + sigma(-3.0), EXACT, "z = 0");
}

#[test]
fn a_sum_gives_pairs_apart_to_the_term_that_wants_them_and_refuses_two_meanings() {
    let kto = json!({"name": "kto", "beta": 1.0, "reference_point": "mismatched"});
    let both = json!({"terms": [{"name": "dpo", "beta": 1.0}, kto]});
    let groups = [group(&[2.0, 0.0, 3.0, 1.0], &[1.0, 0.0, 1.0, 0.0])];
    let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
    let found = run("combine", both, &groups);
    // DPO sees the two responses alone; z = 2.
    let expected = -sigma(2.0).ln() + sigma(0.0) + sigma(-2.0);
    assert_close(found.losses[0], expected, EXACT, "dpo and kto");
    let terms = json!({"terms": [{"name": "cca"}, {"name": "kto", "reference_point": "mismatched"}]});
    let terms = terms.as_object().expect("a table");
    let error = registry::build("combine", terms).expect_err("refused").to_string();
    assert!(error.contains("point of reference"), "{error}");
}

#[test]
fn lipo_lambda_weights_pairs_by_gain_and_discount() {
    let (first, second, third) = (1.0 / LN_2, 1.0 / 3f64.ln(), 1.0 / 4f64.ln());
    // Ranks by h: response 1, then 2, then 0. Gains 2^r - 1: 3, 1, 0.
    let found = run("lipo_lambda", json!({"beta": 1.0}), &[group(&[0.0, 2.0, 1.0], &[2.0, 1.0, 0.0])]);
    let cost = |difference: f64| (1.0 + (-difference).exp()).ln();
    let expected = 2.0 * (third - first).abs() * cost(-2.0)
        + 3.0 * (third - second).abs() * cost(-1.0)
        + (first - second).abs() * cost(1.0);
    assert_close(found.losses[0], expected, EXACT, "three responses");
    let start = run("lipo_lambda", json!({}), &[group(&[0.0, 0.0], &[0.0, 1.0])]);
    assert_close(start.losses[0], (first - second) * LN_2, EXACT, "at the reference");
}

#[test]
fn rrhf_adds_misordered_pairs_and_the_best_likelihood() {
    // p = -2 + h/10: -1.8, -2.0, -1.7; the last two have equal rewards.
    let found = run("rrhf", json!({}), &[group(&[2.0, 0.0, 3.0], &[1.0, 0.0, 0.0])]);
    assert_close(found.losses[0], 0.1 + 1.8, EXACT, "loss");
    assert_rows(&found.coefficients, &[vec![-0.2, 0.0, 0.1]], EXACT, "gradient");
}

#[rstest]
#[case("reverse_kl", 0.5, |x: f64| x)]
#[case("forward_kl", 0.5, |x: f64| 1.0 - (-x).exp())]
#[case("js_divergence", 0.5, |x: f64| (2.0 * x.exp() / (1.0 + x.exp())).ln())]
#[case("alpha_divergence", 0.25, |x: f64| ((-0.75 * x).exp() - 1.0) / -0.75)]
#[case("alpha_divergence", 1.0, |x: f64| x)]
fn another_divergence_takes_the_place_of_the_log_ratio(
    #[case] name: &str,
    #[case] alpha: f64,
    #[case] of: fn(f64) -> f64,
) {
    let delta: [f64; 3] = [0.4, -1.0, 0.1];
    let scores = delta.map(of);
    let params = json!({"beta": 0.3, "f_divergence_type": name, "f_alpha_divergence_coef": alpha});
    let rewards = [1.0, 0.0, 0.5];
    for loss in ["dpo", "hinge", "robust", "exo_pair", "discopop"] {
        let found = run(loss, params.clone(), &[group(&delta, &rewards)]).losses;
        // The best and the worst are the first and the second.
        let plain = run(loss, json!({"beta": 0.3}), &[group(&scores, &rewards)]).losses;
        assert_rows(&[found], &[plain], EXACT, loss);
    }
}

#[test]
fn far_from_the_reference_the_forward_divergence_stays_finite() {
    let params = json!({"beta": 0.1, "f_divergence_type": "forward_kl"});
    let found = run("dpo", params, &[group(&[-900.0, 3.0], &[1.0, 0.0])]);
    assert!(found.losses[0].is_finite() && found.coefficients[0].iter().all(|c| c.is_finite()), "{found:?}");
}

#[test]
fn rebel_is_the_mean_square_over_all_pairs() {
    let (delta, rewards): ([f64; 4], [f64; 4]) = ([0.4, -1.0, 0.1, 2.0], [1.0, 0.0, 0.5, 0.25]);
    let pairs = (0..4).flat_map(|i| (i + 1..4).map(move |j| (i, j)));
    let squares = pairs.map(|(i, j)| (0.5 * (delta[i] - delta[j]) - (rewards[i] - rewards[j])).powi(2));
    let expected: f64 = squares.sum::<f64>() / 6.0;
    let found = run("rebel", json!({"beta": 0.5}), &[group(&delta, &rewards)]);
    assert_close(found.losses[0], expected, EXACT, "rebel");
    let optimal: Vec<f64> = rewards.iter().map(|reward| 2.0 * reward + 7.0).collect();
    let found = run("rebel", json!({"beta": 0.5}), &[group(&optimal, &rewards), group(&delta[..2], &rewards[..2])]);
    assert_close(found.losses[0], 0.0, EXACT, "at the optimum, beside a group of two");
}

#[test]
fn rpo_is_least_where_margins_are_gaps_and_dpo_where_gaps_are_large() {
    let rewards = [1.0, 0.0, 0.5];
    let optimal: Vec<f64> = rewards.iter().map(|reward| 3.0 * reward / 0.2 - 5.0).collect();
    let found = run("rpo", json!({"beta": 0.2, "eta": 3.0}), &[group(&optimal, &rewards)]);
    assert_close(found.losses[0], 0.0, EXACT, "loss");
    found.coefficients[0].iter().for_each(|c| assert_close(*c, 0.0, EXACT, "gradient"));
    let pair = [group(&[0.4, -1.0], &[1.0, 0.0])];
    let (large, dpo) = (run("rpo", json!({"eta": 800.0}), &pair), run("dpo", json!({}), &pair));
    assert_rows(&[large.losses], &[dpo.losses], EXACT, "loss");
    assert_rows(&large.coefficients, &dpo.coefficients, EXACT, "gradient");
}
