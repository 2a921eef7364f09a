//! End-to-end tests on two small plugins.

use rstest::rstest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::*;

/// Mean implicit reward of the other responses minus that of the best.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Lift {
    beta: Positive,
    margin: NonNegative,
}

impl Default for Lift {
    fn default() -> Self {
        Self { beta: Positive::constant(0.5), margin: NonNegative::constant(0.0) }
    }
}

impl Objective for Lift {
    fn needs(&self) -> Needs {
        Needs::default().without_pairs()
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let h = groups.log_ratios() * self.beta.get();
        let loss = groups.mean(h.clone()) - groups.best(h.clone()) + self.margin.get();
        ObjectiveOutput { loss, implicit_rewards: h }
    }
}

register_objective!(Lift, name: "lift", summary: "s", formula: "f", paper: "none");

/// How a [`Faulty`] objective is wrong.
#[derive(Debug, Clone, Copy)]
enum Fault {
    CountsAbsent,
    LosesGradient,
    CouplesPrompts,
    Overflows,
    ReadsOrder,
    HidesReference,
}

#[derive(Debug)]
struct Faulty(Fault);

impl Objective for Faulty {
    fn needs(&self) -> Needs {
        Needs { reference: !matches!(self.0, Fault::HidesReference), ..Needs::default() }
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let h = match self.0 {
            Fault::HidesReference => groups.token_logps() * (groups.num_groups() as f64),
            _ => groups.log_ratios(),
        };
        let loss = match self.0 {
            Fault::CountsAbsent => h.clone().exp().sum_dim(1).squeeze_dim(1),
            Fault::LosesGradient => groups.best(h.clone()) - groups.worst(h.clone().detach()),
            Fault::CouplesPrompts => groups.best(h.clone()) - groups.best(h.clone()).mean(),
            Fault::Overflows => groups.best(h.clone()).exp(),
            Fault::ReadsOrder => h.clone().narrow(1, 0, 1).squeeze_dim(1),
            Fault::HidesReference => groups.best(h.clone()),
        };
        ObjectiveOutput { loss, implicit_rewards: h }
    }
}

fn group(policy: &[f64], reference: &[f64], rewards: &[f64]) -> GroupScores {
    GroupScores {
        policy_logps: policy.to_vec(),
        reference_logps: Some(reference.to_vec()),
        rewards: rewards.to_vec(),
        lengths: vec![4; policy.len()],
    }
}

fn numbers<const D: usize>(tensor: Tensor<ObjectiveBackend, D>) -> Vec<f64> {
    tensor.into_data().to_vec::<f64>().expect("float64")
}

fn ragged() -> Vec<GroupScores> {
    vec![
        group(&[-1.0, -2.0, -4.0], &[-1.5, -2.0, -3.0], &[0.0, 1.0, 0.5]),
        group(&[-3.0, -8.0], &[-2.0, -9.0], &[1.0, 1.0]),
    ]
}

#[test]
fn a_batch_with_too_many_pairs_is_refused() {
    let wide = vec![0.0; 1500];
    let mut groups = vec![group(&wide, &wide, &wide)];
    assert!(ScoredGroups::new(&groups, &Needs::default()).is_ok());
    groups.extend(vec![group(&[0.0; 2], &[0.0; 2], &[0.0; 2]); 1500]);
    let message = ScoredGroups::new(&groups, &Needs::default()).expect_err("too many pairs").to_string();
    assert!(message.starts_with("1501 prompts with up to 1500 responses"), "{message}");
}

#[test]
fn every_helper_ignores_absent_responses() {
    let groups = ScoredGroups::padded(&ragged(), &Needs::default(), 1).expect("valid");
    let ratios = groups.log_ratios();
    assert_eq!(numbers(ratios.clone()), [0.5, 0.0, -1.0, 0.0, -1.0, 1.0, 0.0, 0.0]);
    assert_eq!(numbers(groups.sum(ratios.clone())), [-0.5, 0.0]);
    assert_eq!(numbers(groups.mean(ratios.clone() + 1.0)), [2.5 / 3.0, 1.0]);
    assert_eq!(numbers(groups.best(ratios.clone())), [0.0, -1.0]);
    assert_eq!(numbers(groups.worst(ratios.clone())), [0.5, 1.0]);
    assert_eq!(numbers(groups.sorted_by_reward(ratios.clone())), [0.0, -1.0, 0.5, 0.0, -1.0, 1.0, 0.0, 0.0]);
    assert_eq!(numbers(groups.reward_weights(1.0))[4..], [0.5, 0.5, 0.0, 0.0]);
    let log_softmax = numbers(groups.log_softmax(ratios.clone()));
    let expected = [-(1.0 + 2f64.exp()).ln(), -(1.0 + (-2f64).exp()).ln(), 0.0, 0.0];
    log_softmax[4..].iter().zip(expected).for_each(|(a, b)| assert!((a - b).abs() < 1e-15, "{a} {b}"));
    assert_eq!(numbers(groups.softmax(ratios))[6..], [0.0, 0.0]);
    assert_eq!(groups.counts(), [3, 2]);
}

#[test]
fn coefficients_are_the_gradient_of_the_mean_and_ragged() {
    let found = evaluate(&Lift::default(), &ragged()).expect("valid");
    let (third, half) = (0.25 / 3.0, 0.25 / 2.0);
    let expected = [vec![third, third - 0.25, third], vec![half - 0.25, half]];
    for (found, expected) in found.coefficients.iter().flatten().zip(expected.iter().flatten()) {
        assert!((found - expected).abs() < 1e-15, "{found} {expected}");
    }
    assert_eq!(found.implicit_rewards, [vec![0.25, 0.0, -0.5], vec![-0.5, 0.5]]);
    assert_eq!(found.mean_loss(), (found.losses[0] + found.losses[1]) / 2.0);
}

#[test]
fn a_sound_objective_passes_the_laws() {
    conformance::check("lift").expect("lift is sound");
}

#[rstest]
#[case(Fault::CountsAbsent, "absent responses change nothing")]
#[case(Fault::LosesGradient, "coefficients are the gradient of the mean loss")]
#[case(Fault::CouplesPrompts, "each prompt counts for itself (or needs() says couples_batch)")]
#[case(Fault::Overflows, "losses and coefficients stay finite at extreme inputs")]
#[case(Fault::ReadsOrder, "permuting responses permutes the gradient")]
#[case(Fault::HidesReference, "each prompt counts for itself (or needs() says couples_batch)")]
fn a_faulty_objective_fails_the_laws(#[case] fault: Fault, #[case] expected: &str) {
    match conformance::check_objective(&Faulty(fault)) {
        Err(conformance::Failure::Law { law, .. }) => assert_eq!(law, expected),
        other => panic!("{fault:?} gave {other:?}"),
    }
}

#[rstest]
#[case(vec![], "a batch needs at least one prompt, found none")]
#[case(vec![group(&[-1.0], &[-1.0], &[0.0])],
    r#"group 0: field "policy_logps": expected at least 2 responses, found 1"#)]
#[case(vec![group(&[-1.0, f64::NAN], &[-1.0, 0.0], &[0.0, 0.0])],
    r#"group 0: field "policy_logps[1]": expected a finite number, found NaN"#)]
#[case(vec![ragged().remove(0), group(&[-1.0, -1.0], &[-1.0], &[0.0, 0.0])],
    r#"group 1: field "reference_logps": expected 2 numbers, one per response, found 1"#)]
#[case(vec![group(&[-1.0, -1.0], &[-1.0, 0.0], &[0.0, f64::INFINITY])],
    r#"group 0: field "rewards[1]": expected a finite number, found inf"#)]
#[case(vec![GroupScores { reference_logps: None, ..ragged().remove(0) }],
    r#"group 0: field "reference_logps": this objective needs a reference, found none"#)]
#[case(vec![GroupScores { lengths: vec![1, 0, 1], ..ragged().remove(0) }],
    r#"group 0: field "lengths[1]": expected at least 1 token, found 0"#)]
fn errors_name_the_malformed_group(#[case] groups: Vec<GroupScores>, #[case] message: &str) {
    let error = evaluate(&Lift::default(), &groups).expect_err("the groups are malformed");
    assert_eq!(error.to_string(), message);
}

#[test]
fn plugins_show_their_defaults_and_merge_given_parameters() {
    let plugin = registry::find("lift").expect("registered above");
    assert_eq!(plugin.defaults(), json!({"beta": 0.5, "margin": 0.0}));
    let built = plugin.build(&Map::from_iter([("margin".to_owned(), json!(2))])).expect("in range");
    assert_eq!(format!("{built:?}"), "Lift { beta: Positive(0.5), margin: NonNegative(2.0) }");
}

#[rstest]
#[case(json!({"beta": "0.1"}), r#"parameter "beta" = "0.1": invalid type: string "0.1", expected f64"#)]
#[case(json!({"beta": 1.0, "margin": -1.0}), r#"parameter "margin" = -1.0: expected a number >= 0, found -1"#)]
#[case(json!({"margn": 1.0}), r#"has no parameter "margn"; did you mean margin?"#)]
fn errors_name_the_wrong_parameter(#[case] params: Value, #[case] message: &str) {
    let params = params.as_object().cloned().expect("an object");
    let error = registry::build("lift", &params).expect_err("the parameters are wrong").to_string();
    assert!(error.contains(message), "{error}");
}

fn row() -> Value {
    json!({"objective": "lift", "policy_logps": [[-1.0, -2.0]], "reference_logps": [[-1.0, -1.0]],
           "rewards": [[0.0, 1.0]], "lengths": [[3, 4]], "note": "kept"})
}

#[test]
fn rows_gain_loss_and_gradient_from_an_array_or_lines() {
    let found = values::evaluate_rows(&json!([row(), row()]).to_string()).expect("valid rows");
    assert_eq!(found[1]["loss"], json!([0.25])); // h = (0, −½): mean −¼ minus best −½
    assert_eq!(found[1]["grad_of_mean"], json!([[0.25, -0.25]]));
    assert_eq!(found[1]["note"], "kept");
    assert_eq!(values::evaluate_rows(&format!("{}\n\n{}\n", row(), row())).expect("valid rows"), found);
}

#[rstest]
#[case("objective", json!("lft"), r#"row 2: field "objective": no objective is called "lft"; did you mean lift?"#)]
#[case("objective", Value::Null, r#"row 2: field "objective": expected a name, found null"#)]
#[case("params", json!({"beta": -1}), r#"row 2: field "params.beta": objective "lift": parameter "beta" = -1: "#)]
#[case("policy_logps", json!([[-1.0, "x"]]), r#"row 2: field "policy_logps[0][1]": expected a number, found "x""#)]
#[case("rewards", json!([[1.0]]), r#"row 2: field "rewards[0]": expected 2 numbers, one per response, found 1"#)]
#[case("rewards", json!([]), r#"row 2: field "rewards": expected 1 lists as in policy_logps, found 0"#)]
#[case("lengths", json!([[3, 0]]), r#"row 2: field "lengths[0][1]": expected at least 1 token, found 0"#)]
#[case("lengths", json!([[3, 1.5]]), r#"row 2: field "lengths[0][1]": expected a whole number, found 1.5"#)]
#[case("reference_logps", Value::Null, r#"row 2: field "reference_logps[0]": this objective needs a reference"#)]
fn errors_name_the_broken_row_and_field(#[case] field: &str, #[case] value: Value, #[case] message: &str) {
    let mut broken = row();
    broken[field] = value;
    let error = values::evaluate_rows(&format!("{}\n{broken}", row())).expect_err("the row is broken").to_string();
    assert!(error.starts_with(message), "{error}");
}

#[test]
fn errors_name_the_row_and_column_of_invalid_json() {
    let error = values::evaluate_rows(&format!("{}\n{{\"objective\": }}", row())).expect_err("not JSON").to_string();
    assert_eq!(error, "row 2: not valid JSON: expected value at line 2 column 15");
}

/// A group of this many responses, with some differences between them.
fn wide(num_responses: usize) -> GroupScores {
    let numbers: Vec<f64> = (0..num_responses).map(|k| -1.0 - (k % 7) as f64 / 8.0).collect();
    GroupScores {
        reference_logps: Some(vec![-1.0; num_responses]),
        rewards: numbers.iter().map(|number| -number).collect(),
        lengths: vec![1; num_responses],
        policy_logps: numbers,
    }
}

/// Does not say that it holds no pairs.
#[derive(Debug)]
struct Paired;

impl Objective for Paired {
    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        Lift::default().evaluate(groups)
    }
}

#[test]
fn a_wide_group_does_not_widen_the_others() {
    let mut groups = vec![group(&[-1.0, -2.0], &[-1.5, -1.5], &[1.0, 0.0]); 3000];
    groups[1000] = wide(3000);
    // Padded, these are 9 million numbers, more than a batch may have.
    let all = evaluate(&Lift::default(), &groups).expect("evaluated in parts");
    for index in [0, 999, 1000, 1001, 2999] {
        let alone = evaluate(&Lift::default(), &groups[index..=index]).expect("valid");
        assert_eq!(all.losses[index], alone.losses[0]);
        assert_eq!(all.implicit_rewards[index], alone.implicit_rewards[0]);
        for (found, alone) in all.coefficients[index].iter().zip(&alone.coefficients[0]) {
            assert!((found - alone / 3000.0).abs() <= 1e-12 * alone.abs(), "{found} against {alone} of 3000");
        }
    }
}

#[test]
fn an_error_of_a_part_names_the_group_of_the_whole() {
    let mut groups = vec![wide(2); 300];
    groups[100] = wide(60_000);
    groups[200].rewards[1] = f64::NAN;
    let error = evaluate(&Lift::default(), &groups).expect_err("not a number");
    assert!(matches!(&error, ObjectiveError::InvalidGroup { group: 200, .. }), "{error}");
}

#[test]
fn only_objectives_that_hold_pairs_are_limited_by_them() {
    let most = Paired.needs().most_responses(8);
    assert!(evaluate(&Lift::default(), &[wide(most + 1)]).is_ok());
    assert!(evaluate(&Paired, &[wide(most)]).is_ok());
    let error = evaluate(&Paired, &[wide(most + 1)]).expect_err("too many pairs").to_string();
    assert!(error.contains("more than 4194304 pairs"), "{error}");
}
