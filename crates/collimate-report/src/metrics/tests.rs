//! The figures of a step, with expected values written as arithmetic.

use std::f64::consts::LN_2;

use super::{GroupFigures, GroupOutcome, StepMetrics, evaluation_row, group_metrics};

fn group(implicit_rewards: &[f64], rewards: &[f64]) -> GroupOutcome {
    GroupOutcome {
        implicit_rewards: implicit_rewards.to_vec(),
        rewards: rewards.to_vec(),
        policy_logps: implicit_rewards.iter().map(|h| h - 10.0).collect(),
        reference_logps: None,
        num_tokens: vec![3; rewards.len()],
    }
}

#[test]
fn chosen_is_the_first_best_and_rejected_the_mean_of_the_rest() {
    let row = group_metrics(&[group(&[1.0, 4.0, 3.0], &[0.5, 1.0, 1.0])], None);
    assert_eq!(row.get("rewards/chosen"), Some(4.0));
    assert_eq!(row.get("rewards/rejected"), Some((1.0 + 3.0) / 2.0));
    assert_eq!(row.get("rewards/margins"), Some(4.0 - 2.0));
    assert_eq!(row.get("rewards/accuracies"), Some(1.0));
    assert_eq!(row.get("logps/chosen"), Some(-6.0));
    let ranks: Vec<_> = (0..3).map(|rank| row.get(&format!("rewards/rank_{rank}"))).collect();
    assert_eq!(ranks, [Some(4.0), Some(3.0), Some(1.0)]);
}

#[test]
fn lengths_of_chosen_and_rejected_and_how_they_go_with_rewards() {
    let with = |num_tokens: &[usize]| GroupOutcome {
        num_tokens: num_tokens.to_vec(),
        ..group(&[3.0, 2.0, 1.0], &[0.0, 1.0, 0.0])
    };
    let row = group_metrics(&[with(&[30, 20, 10]), with(&[9, 9, 9])], None);
    assert_eq!(row.get("lengths/chosen"), Some((20.0 + 9.0) / 2.0));
    assert_eq!(row.get("lengths/rejected"), Some(((30.0 + 10.0) / 2.0 + 9.0) / 2.0));
    // At equal lengths the correlation is undefined; if the middle one is best it is zero.
    assert!((row.get("lengths/correlation").expect("a figure") - 1.0).abs() < 1e-12);
    assert!(row.get("lengths/reward_correlation").expect("a figure").abs() < 1e-12);
}

#[test]
fn the_chosen_responses_log_ratio_is_there_with_a_reference() {
    let with = |reference: &[f64]| GroupOutcome {
        reference_logps: Some(reference.to_vec()),
        ..group(&[1.0, 4.0], &[0.0, 1.0])
    };
    // Policy log-probs are h - 10: -6 for the chosen one.
    let row = group_metrics(&[with(&[-9.0, -5.0]), with(&[-9.0, -8.0])], None);
    assert_eq!(row.get("log_ratios/chosen"), Some((-1.0 + 2.0) / 2.0));
    assert_eq!(group_metrics(&[group(&[1.0, 4.0], &[0.0, 1.0])], None).get("log_ratios/chosen"), None);
}

#[test]
fn ranks_are_means_over_the_prompts_that_have_them() {
    let row = group_metrics(&[group(&[1.0, 2.0], &[1.0, 0.0]), group(&[3.0, 6.0, 8.0], &[2.0, 1.0, 0.0])], None);
    assert_eq!(row.get("rewards/rank_0"), Some((1.0 + 3.0) / 2.0));
    assert_eq!(row.get("rewards/rank_2"), Some(8.0));
    assert_eq!(row.get("rewards/accuracies"), Some(0.0));
}

#[test]
fn equal_rewards_decide_nothing() {
    let row = group_metrics(&[group(&[1.0, 2.0], &[1.0, 1.0])], Some(1.0));
    assert_eq!(row.get("rewards/accuracies"), None);
    assert!((row.get("weights/entropy").expect("an entropy") - LN_2).abs() < 1e-12);
    let one_hot = group_metrics(&[group(&[1.0, 2.0], &[1.0, 0.0])], Some(1e-4));
    assert_eq!(one_hot.get("weights/entropy"), Some(0.0));
}

#[test]
fn names_and_order_of_a_row() {
    let groups = [group(&[1.0, 2.0], &[1.0, 0.0])];
    let step = StepMetrics {
        step: 1,
        epoch: 0.5,
        loss: LN_2,
        aux_loss: None,
        grad_norm: 1.0,
        learning_rate: 0.0,
        groups: &groups,
        alpha: None,
        num_tokens: 7,
        step_seconds: 0.1,
        memory_bytes: Some(1 << 20),
    };
    let row = step.row();
    let names: Vec<&str> = row.names().collect();
    let expected = "step epoch loss grad_norm learning_rate rewards/chosen rewards/rejected rewards/accuracies \
                    rewards/margins rewards/rank_0 rewards/rank_1 logps/chosen logps/rejected logps/rank_0 \
                    logps/rank_1 lengths/chosen lengths/rejected lengths/correlation \
                    lengths/reward_correlation num_tokens step_seconds memory_bytes";
    assert_eq!(names.join(" "), expected);
    let mut figures = GroupFigures::new(None);
    groups.iter().for_each(|group| figures.add(group));
    assert_eq!(evaluation_row(1, 0.5, 0.1, &figures).get("eval_loss"), Some(0.1));
}
