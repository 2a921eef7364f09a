//! Every objective against PyTorch's numbers, dfdx, finite differences, closed forms and the laws.

use std::f64::consts::LN_2;

use collimate_objective::{
    Evaluation, GroupScores, ObjectiveError, conformance, evaluate, registry,
    serde_json::{Map, Value, json},
};
use collimate_objectives as _;
use collimate_oracle::{LossAndGradient, OracleGroup, objective_rows};
use proptest::prelude::*;
use rstest::rstest;

/// Agreement with PyTorch in float64: absolute up to 1, relative beyond.
const GOLDEN: f64 = 1e-10;
/// Agreement of float64 sums done in another order.
const EXACT: f64 = 1e-12;

const NAMES: [&str; 18] = [
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
    "nca",
    "nca_pair",
    "orpo",
    "robust",
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

#[test]
fn all_objectives_are_registered_under_names_of_their_own() {
    registry::check().expect("no two objectives share a name");
    assert_eq!(registry::all().iter().map(|plugin| plugin.name).collect::<Vec<_>>(), NAMES);
}

/// The table of `docs/objectives.md`, written from the registry.
fn table_of_objectives() -> String {
    let mut table =
        "| name | what it does | loss of a prompt | defaults | source |\n|---|---|---|---|---|\n".to_owned();
    for plugin in registry::all() {
        let defaults = plugin.defaults();
        let defaults = defaults.as_object().into_iter().flatten().map(|(key, value)| format!("`{key}: {value}`"));
        let defaults = defaults.collect::<Vec<_>>().join(", ");
        let (formula, summary) = (plugin.formula.replace('|', "\\|"), plugin.summary);
        table += &format!("| `{}` | {summary} | {formula} | {defaults} | {} |\n", plugin.name, plugin.paper);
    }
    table
}

#[test]
fn the_table_in_the_docs_is_the_registrys() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/objectives.md");
    let text = std::fs::read_to_string(path).expect("docs/objectives.md is there");
    let (start, end) = ("<!-- table: start -->\n", "<!-- table: end -->");
    let (before, rest) = text.split_once(start).expect("a start mark");
    let (found, after) = rest.split_once(end).expect("an end mark");
    let expected = table_of_objectives();
    if std::env::var_os("COLLIMATE_WRITE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{start}{expected}{end}{after}")).expect("docs/objectives.md is written");
    } else {
        assert_eq!(found, expected, "run this test with COLLIMATE_WRITE_DOCS=1 and commit docs/objectives.md");
    }
}

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
        assert_rows(&[found.losses.clone()], &[row.loss], GOLDEN, &place);
        assert_rows(&found.coefficients, &row.grad_of_mean, GOLDEN, &place);
        assert_close(found.mean_loss(), row.mean_loss, GOLDEN, &place);
    }
}

#[test]
fn the_laws_hold_for_every_objective() {
    for name in NAMES {
        if let Err(failure) = conformance::check(name) {
            panic!("{name}: {failure}");
        }
    }
}

#[rstest]
#[case("nca", json!({"beta": 0.01, "alpha": 1e-4}))]
#[case("infonca", json!({"beta": 5.0, "alpha": 1e-300}))]
#[case("dpo", json!({"beta": 1.0, "label_smoothing": 0.4}))]
#[case("exo_pair", json!({"beta": 1.0, "label_smoothing": 1e-12}))]
#[case("discopop", json!({"beta": 1.0, "tau": 1.0}))]
#[case("simpo", json!({"beta": 2.0, "gamma": 0.0}))]
#[case("combine", json!({"terms": [{"name": "infonca", "weight": 0.5}, {"name": "orpo", "beta": 2.0}]}))]
fn the_laws_hold_away_from_the_defaults(#[case] name: &str, #[case] params: Value) {
    let objective = registry::build(name, &table(params)).expect("the objective builds");
    if let Err(failure) = conformance::check_objective(objective.as_ref()) {
        panic!("{name}: {failure}");
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

#[rstest]
fn losses_at_the_reference(#[values(2, 3, 4, 7)] k: usize) {
    let rewards: Vec<f64> = (0..k).map(|i| i as f64 / k as f64).collect();
    let start = group(&vec![0.0; k], &rewards);
    let weights = run("infonca", json!({}), &[start.clone()]).coefficients[0].clone();
    assert_close(run("nca", json!({}), &[start.clone()]).losses[0], 2.0 * LN_2, EXACT, "nca");
    assert_close(run("infonca", json!({}), &[start.clone()]).losses[0], (k as f64).ln(), EXACT, "infonca");
    assert_close(run("dpo", json!({}), &[start.clone()]).losses[0], LN_2, EXACT, "dpo");
    assert_close(run("nca_pair", json!({}), &[start.clone()]).losses[0], 2.0 * LN_2, EXACT, "nca_pair");
    assert_close(run("apo_zero", json!({}), &[start.clone()]).losses[0], 1.0, EXACT, "apo_zero");
    // Gradients in h: NCA 1/(2K) − w/2, InfoNCA 1/K − w: NCA's is half of InfoNCA's.
    let halves: Vec<f64> = weights.iter().map(|c| c / 2.0).collect();
    assert_rows(&run("nca", json!({}), &[start]).coefficients, &[halves], EXACT, "nca at the reference");
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
    assert_rows(&[coefficients.clone()], &[vec![0.0, -0.05, 0.0, 0.05]], EXACT, "dpo");
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

#[rstest]
#[case("nca", json!({"beta": 0.0}), r#"objective "nca": parameter "beta" = 0.0: expected a number > 0, found 0"#)]
#[case("nca", json!({"alpha": -1}), r#"objective "nca": parameter "alpha" = -1: expected a number > 0, found -1"#)]
#[case("dpo", json!({"label_smoothing": 0.5}),
    r#"objective "dpo": parameter "label_smoothing" = 0.5: expected a number in [0, 0.5), found 0.5"#)]
#[case("nca", json!({"bta": 0.1}), r#"objective "nca" has no parameter "bta"; did you mean beta?; it has beta, alpha"#)]
#[case("sft", json!({"beta": 0.1}), r#"objective "sft" has no parameter "beta"; it has none"#)]
#[case("ncaa", json!({}), r#"no objective is called "ncaa"; did you mean nca or nca_pair?"#)]
#[case("combine", json!({"terms": []}),
    r#"objective "combine": parameter "terms" = []: expected at least one term, found none"#)]
fn recipes_that_cannot_be_meant_are_refused(#[case] name: &str, #[case] params: Value, #[case] message: &str) {
    let error = registry::build(name, &table(params)).expect_err("the recipe is wrong");
    assert_eq!(error.to_string(), message);
}

#[test]
fn a_combination_names_the_term_at_fault() {
    let terms = json!({"terms": [{"name": "nca"}, {"name": "dpo", "bta": 1.0}]});
    let error = registry::build("combine", &table(terms)).expect_err("bta is not a parameter");
    assert!(
        matches!(&error, ObjectiveError::InvalidParameter { key, reason, .. }
        if key == "terms" && reason.contains(r#"objective "dpo" has no parameter "bta""#)),
        "{error}"
    );
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
    fn nca_has_the_gradient_of_the_paper(
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
    fn losses_are_never_below_their_bounds(
        h in prop::collection::vec(-100.0..100.0f64, 2..7), rewards in prop::collection::vec(0.0..1.0f64, 7),
    ) {
        for name in ["nca", "infonca", "dpo", "hinge", "ipo", "bco_pair", "apo_zero", "simpo", "nca_pair", "sppo_hard"] {
            let loss = run(name, json!({}), &[group(&h, &rewards[..h.len()])]).losses[0];
            prop_assert!(loss.is_finite() && loss >= 0.0, "{name}: {loss}");
        }
    }
}
