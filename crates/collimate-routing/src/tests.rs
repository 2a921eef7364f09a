use rstest::rstest;

use super::*;

const LOGITS: [f32; 9] = [0.0, 2.0, 1.0, 3.0, 3.0, -1.0, -5.0, 0.5, 0.25];

/// Three experts, two per token, whose weights sum to one.
const PLAIN: Experts = Experts::plain(3, 2, 1);

fn exp(x: f64) -> f64 {
    x.exp()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + exp(-x))
}

fn assert_weights(routing: &Routing, expert: usize, expected: &[f64]) {
    let found = routing.weights(expert);
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).for_each(|(&found, expected)| assert!((f64::from(found) - expected).abs() < 1e-7));
}

#[test]
fn the_largest_logits_are_picked_and_their_weights_sum_to_one() {
    let routing = Routing::new(&LOGITS, PLAIN, None);
    assert_eq!([routing.rows(0), routing.rows(1), routing.rows(2)], [&[1][..], &[0, 1, 2], &[0, 2]]);
    assert_eq!(routing.weights(0), [0.5]);
    let (first, last) = (exp(2.0) / (exp(2.0) + exp(1.0)), exp(0.5) / (exp(0.5) + exp(0.25)));
    assert_weights(&routing, 1, &[first, 0.5, last]);
    assert_weights(&routing, 2, &[1.0 - first, 1.0 - last]);
    let one = Routing::new(&[1.0, 1.0, 1.0], Experts { per_token: 1, ..PLAIN }, None);
    assert_eq!((one.rows(0), one.weights(0)), (&[0][..], vec![1.0]), "the first of equal logits");
}

#[test]
fn weights_that_are_not_normalized_are_shares_of_all_experts() {
    let routing = Routing::new(&LOGITS[..3], Experts { normalizes_weights: false, ..PLAIN }, None);
    let all = exp(0.0) + exp(2.0) + exp(1.0);
    assert_weights(&routing, 1, &[exp(2.0) / all]);
    assert_weights(&routing, 2, &[exp(1.0) / all]);
}

#[test]
fn sigmoids_are_weights_or_shares_of_their_sum_and_a_factor_comes_last() {
    let experts = Experts { scores: RouterScores::Sigmoid, normalizes_weights: false, weight_scale: 2.5, ..PLAIN };
    let routing = Routing::new(&LOGITS[..3], experts, None);
    assert_weights(&routing, 1, &[2.5 * sigmoid(2.0)]);
    assert_weights(&routing, 2, &[2.5 * sigmoid(1.0)]);
    let routing = Routing::new(&LOGITS[..3], Experts { normalizes_weights: true, ..experts }, None);
    assert_weights(&routing, 1, &[2.5 * sigmoid(2.0) / (sigmoid(2.0) + sigmoid(1.0))]);
}

#[rstest]
#[case(RouterScores::Sigmoid)]
#[case(RouterScores::Softmax)]
fn a_bias_changes_picks_and_no_weight(#[case] scores: RouterScores) {
    let experts = Experts { scores, normalizes_weights: false, ..PLAIN };
    let routing = Routing::new(&LOGITS[..3], experts, Some(&[1.0, 0.0, 0.5]));
    assert_eq!([routing.rows(0), routing.rows(1), routing.rows(2)], [&[0][..], &[], &[0]]);
    let all = exp(0.0) + exp(2.0) + exp(1.0);
    let expected = if scores == RouterScores::Sigmoid { [0.5, sigmoid(1.0)] } else { [1.0 / all, exp(1.0) / all] };
    assert_weights(&routing, 0, &expected[..1]);
    assert_weights(&routing, 2, &expected[1..]);
}

/// The best expert is in a group whose two best have the smaller sum.
#[test]
fn experts_come_from_the_groups_with_the_best_two() {
    let groups = Some(ExpertGroups { count: 2, per_token: 1 });
    let experts = Experts { count: 6, per_token: 2, scores: RouterScores::Sigmoid, groups, ..PLAIN };
    let logits = [3.0, -4.0, -4.0, 0.5, 0.25, 1.0];
    let routing = Routing::new(&logits, experts, None);
    let picked: Vec<usize> = (0..6).filter(|&expert| !routing.rows(expert).is_empty()).collect();
    assert_eq!(picked, [3, 5]);
    let both = Experts { groups: Some(ExpertGroups { count: 2, per_token: 2 }), ..experts };
    let routing = Routing::new(&logits, both, None);
    let picked: Vec<usize> = (0..6).filter(|&expert| !routing.rows(expert).is_empty()).collect();
    assert_eq!(picked, [0, 5]);
}

/// `Σ c · weight + w · balance` of logits in float64.
fn objective(logits: &[f64], d_weights: &[Vec<f32>], weight: f64, counts: &[f32], experts: Experts) -> f64 {
    let single: Vec<f32> = logits.iter().map(|&x| x as f32).collect();
    let routing = Routing::new(&single, experts, None);
    let score = |x: f64| if experts.scores == RouterScores::Sigmoid { sigmoid(x) } else { exp(x) };
    let (mut sum, mut picked, mut p) = (0.0, [0.0; 3], [0.0; 3]);
    for (row, logits) in logits.chunks(3).enumerate() {
        let chosen = |e: usize| routing.rows(e).contains(&(row as u32));
        let over_chosen: f64 = (0..3).filter(|&e| chosen(e)).map(|e| score(logits[e])).sum();
        let over_all: f64 = logits.iter().map(|&x| score(x)).sum();
        let divisor = match (experts.normalizes_weights, experts.scores) {
            (true, _) => over_chosen,
            (false, RouterScores::Softmax) => over_all,
            (false, RouterScores::Sigmoid) => 1.0,
        };
        for e in 0..3 {
            p[e] += f64::from(counts[row]) * score(logits[e]) / over_all;
            if let Some(index) = routing.rows(e).iter().position(|&r| r as usize == row) {
                picked[e] += f64::from(counts[row]);
                sum += experts.weight_scale * f64::from(d_weights[e][index]) * score(logits[e]) / divisor;
            }
        }
    }
    let rows: f64 = counts.iter().map(|&c| f64::from(c)).sum();
    sum + weight * 3.0 * (0..3).map(|e| picked[e] / rows * p[e] / rows).sum::<f64>()
}

#[rstest]
fn gradients_match_finite_differences(
    #[values(false, true)] normalizes_weights: bool,
    #[values(RouterScores::Softmax, RouterScores::Sigmoid)] scores: RouterScores,
    #[values(1.0, 1.75)] weight_scale: f64,
) {
    let experts = Experts { normalizes_weights, scores, weight_scale, ..PLAIN };
    let routing = Routing::new(&LOGITS, experts, None);
    let d_weights = vec![vec![0.5], vec![-1.0, 2.0, 0.25], vec![1.5, -0.75]];
    let counts = vec![1.0, 4.0, 1.0];
    let mut load = RouterLoad::new(3);
    load.add_layer(&routing, &counts);
    let found = routing.backward(&d_weights, Some(&load.gradient(0.7, counts.clone())));
    let plain = routing.backward(&d_weights, None);
    assert!(found.iter().zip(&plain).any(|(found, plain)| (found - plain).abs() > 1e-3));
    let logits = LOGITS.map(f64::from);
    for (i, &found) in found.iter().enumerate() {
        let moved = |step: f64| {
            let mut logits = logits;
            logits[i] += step;
            objective(&logits, &d_weights, 0.7, &counts, experts)
        };
        // A step too small to change any choice of experts.
        let expected = (moved(1e-4) - moved(-1e-4)) / 2e-4;
        assert!((f64::from(found) - expected).abs() < 1e-5, "{i}: {found} against {expected}");
    }
}

#[test]
fn the_loss_is_that_of_all_packs_combined() {
    let [first, second, all] = [&LOGITS[..3], &LOGITS[3..], &LOGITS].map(|logits| Routing::new(logits, PLAIN, None));
    let mut apart = RouterLoad::new(3);
    apart.add_layer(&first, &[2.0]);
    let mut other = RouterLoad::new(3);
    other.add_layer(&second, &[1.0, 3.0]);
    apart.add(&other);
    let mut together = RouterLoad::new(3);
    together.add_layer(&all, &[2.0, 1.0, 3.0]);
    assert_eq!(apart, together);
    let even = Routing::new(&[1.0, 0.0, 0.0, 1.0], Experts { count: 2, per_token: 1, ..PLAIN }, None);
    let mut load = RouterLoad::new(2);
    load.add_layer(&even, &[1.0, 1.0]);
    assert!((load.loss() - 1.0).abs() < 1e-7, "{}", load.loss());
}

#[test]
fn parts_have_at_most_so_many_rows_or_a_single_expert() {
    // Experts of 1, 3 and 2 rows.
    let routing = Routing::new(&LOGITS, PLAIN, None);
    assert_eq!(routing.parts(6), vec![Range { start: 0, end: 3 }]);
    assert_eq!(routing.parts(4), [0..2, 2..3]);
    assert_eq!(routing.parts(5), [0..2, 2..3]);
    assert_eq!(routing.parts(2), [0..1, 1..2, 2..3]);
}
