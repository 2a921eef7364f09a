use super::*;
use crate::metrics::StepMetrics;

fn facts() -> RunFacts {
    RunFacts::new("seed: 1\n", None)
}

fn row(step: u64) -> MetricsRow {
    let mut row = MetricsRow::default();
    row.set_count("step", step);
    row.set("loss", 1.0 / step as f64);
    row.set("eval_loss", step as f64);
    row
}

#[test]
fn an_ordinary_run_is_kept_as_it_is() {
    let rows: Vec<MetricsRow> = (1..=5000).map(row).collect();
    let history = History::from_rows(&rows, facts());
    let expected: Vec<(f64, f64)> = (1..=5000).map(|step| (f64::from(step), 1.0 / f64::from(step))).collect();
    assert_eq!(history.points("loss"), expected);
    assert_eq!(history.ends("eval_loss"), Some((1.0, 5000.0)));
    assert_eq!((history.points("none"), history.ends("none")), (Vec::new(), None));
}

#[test]
fn a_line_without_room_is_thinned_evenly_and_keeps_its_ends_and_mean() {
    let mut column = Column::default();
    let count = 1000;
    (1..=count).for_each(|step| column.push(Some(f64::from(step)), 3.0 * f64::from(step), 64));
    let points = column.points();
    assert!(points.len() <= 64 + 1, "{}", points.len());
    assert_eq!(column.ends(), Some((3.0, 3.0 * f64::from(count))));
    assert_eq!(column.mean(), Some(3.0 * f64::from(count + 1) / 2.0));
    // Every point is the mean of as many neighbors, except for the last.
    let size = f64::from(count) / points.len() as f64;
    for (index, (step, value)) in points[..points.len() - 1].iter().enumerate() {
        assert_eq!(*value, 3.0 * step);
        assert!((step - (index as f64 + 0.5) * size.log2().ceil().exp2() - 0.5).abs() < 1e-9, "{index}: {step}");
    }
    // Less room later, as more lines come.
    column.push(Some(f64::from(count + 1)), 0.0, 7);
    assert!(column.points().len() <= 8);
}

#[test]
fn memory_does_not_grow_with_the_names_of_a_row() {
    let mut history = History::new(facts());
    let mut row = MetricsRow::default();
    row.set_count("step", 1);
    (0..10_000).for_each(|i| row.set(&format!("unknown/{i}"), 1.0));
    (0..10_000).for_each(|i| row.set(&format!("rewards/rank_{i}"), 1.0));
    (0..100).for_each(|i| row.set(&format!("rewards/rank_{}7", "0".repeat(i)), 1.0));
    history.push(&row);
    assert_eq!(history.ranks().count(), MOST_RANKS);
    assert_eq!(history.figures.len() + history.held_out.len(), 1);
}

#[test]
fn tokens_of_steps_that_were_not_recorded_are_not_counted_into_the_others() {
    let row = |step: u64, tokens: u64, seconds: f64| {
        let mut row = MetricsRow::default();
        row.set_count("step", step);
        row.set_count("num_tokens", tokens);
        row.set("step_seconds", seconds);
        row
    };
    // 100 tokens a step, of which every tenth is recorded.
    let rows = [row(10, 1000, 0.5), row(20, 2000, 0.25), row(20, 2000, 0.25)];
    assert_eq!(History::from_rows(&rows, facts()).rates(), [(10.0, 200.0), (20.0, 400.0)]);
}

#[test]
fn every_figure_of_a_step_is_kept_but_the_log_probs_of_ranks() {
    let group = crate::metrics::GroupOutcome {
        implicit_rewards: vec![1.0, 2.0],
        rewards: vec![1.0, 0.0],
        policy_logps: vec![-1.0, -2.0],
        reference_logps: Some(vec![-1.0, -2.0]),
        num_tokens: vec![1, 2],
    };
    let step = StepMetrics {
        step: 1,
        epoch: 1.0,
        loss: 1.0,
        aux_loss: Some(0.5),
        grad_norm: 1.0,
        learning_rate: 1.0,
        groups: &[group],
        alpha: Some(1.0),
        num_tokens: 3,
        step_seconds: 0.5,
        memory_bytes: Some(1),
    };
    let (row, mut history) = (step.row(), History::new(facts()));
    history.push(&row);
    for name in row.names().filter(|name| *name != "step_seconds" && !name.contains("/rank_")) {
        assert_eq!(history.ends(name).map(|ends| ends.1), row.get(name), "{name}");
    }
    assert_eq!((history.ranks().count(), history.mean_seconds()), (2, Some(0.5)));
    assert_eq!((history.rates(), history.mean_rate()), (vec![(1.0, 6.0)], Some(6.0)));
}
