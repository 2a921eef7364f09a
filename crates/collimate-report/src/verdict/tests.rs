//! Runs that learn, learn nothing, or do harm.

use super::*;

fn facts() -> RunFacts {
    RunFacts::new("learning_rate: 5e-6\nuse_peft: true\nobjective: {name: nca, beta: 0.1}\n", None)
}

/// Steps with these losses, counted from 1.
fn steps(losses: impl IntoIterator<Item = f64>) -> Vec<MetricsRow> {
    let row = |(index, loss): (usize, f64)| {
        let mut row = MetricsRow::default();
        row.set_count("step", index as u64 + 1);
        row.set("loss", loss);
        row
    };
    losses.into_iter().enumerate().map(row).collect()
}

/// Evaluations with these losses after these steps.
fn evaluations(losses: &[(u64, f64)]) -> Vec<MetricsRow> {
    let row = |&(step, loss): &(u64, f64)| {
        let mut row = MetricsRow::default();
        row.set_count("step", step);
        row.set("eval_loss", loss);
        row.set("eval_rewards/accuracies", if step == 0 { 0.0 } else { 0.4 });
        row
    };
    losses.iter().map(row).collect()
}

fn verdict(rows: &[MetricsRow]) -> Option<String> {
    Judge::from_rows(rows).verdict(&facts()).map(|verdict| verdict.to_string())
}

/// A line from `first` to `last` with noise of this size, as from other prompts at each step.
fn line(count: usize, first: f64, last: f64, noise: f64) -> impl Iterator<Item = f64> {
    (0..count).map(move |i| {
        let along = i as f64 / (count - 1) as f64;
        first + along * (last - first) + noise * (7.0 * i as f64).sin()
    })
}

#[test]
fn a_run_that_learns_nothing_is_told_to_raise_the_rate() {
    let said = verdict(&steps(line(45, 1.3863, 1.3864, 1e-4))).expect("a verdict");
    let parts = [
        "the run learned nothing: the training loss went from 1.386",
        " in 45 steps",
        "learning_rate 1e-4 instead of 5e-6",
        "more than 45 steps",
    ];
    assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    let held_out = [steps(line(45, 1.3863, 1.3864, 1e-4)), evaluations(&[(0, 1.3863), (45, 1.3859)])].concat();
    let said = verdict(&held_out).expect("a verdict");
    assert!(said.contains("learned nothing: the held-out loss went from 1.3863 to 1.3859 in 45 steps"), "{said}");
}

#[test]
fn a_run_that_does_harm_says_so_with_the_cause() {
    let steps_of = |last| steps(line(60, 1.386, last, 0.01));
    // The training loss fell: too many passes. It rose as well: too high a rate.
    for (training, first_remedy) in [(0.4, "to try: fewer passes"), (1.8, "to try: a lower learning_rate (now 5e-6)")] {
        let said = verdict(&[steps_of(training), evaluations(&[(0, 1.386), (60, 1.691)])].concat()).expect("a verdict");
        let finding = "the run did harm: the held-out loss rose from 1.3860 to 1.6910 (accuracy 0.0 % to 40.0 %)";
        assert!(said.starts_with(finding), "{said}");
        for part in [first_remedy, "a larger beta (now 0.1)", "data check"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    let said = verdict(&steps_of(1.8)).expect("a verdict");
    assert!(said.starts_with("the run did harm: the training loss rose from"), "{said}");
}

#[test]
fn a_run_that_goes_on_too_long_names_its_best_step() {
    let rows = [steps(line(60, 1.386, 0.2, 0.01)), evaluations(&[(0, 1.386), (20, 1.2), (40, 1.25), (60, 1.3)])];
    let said = verdict(&rows.concat()).expect("a verdict");
    assert!(
        said.contains("fell from 1.3860 to 1.2000 at step 20, then rose to 1.3000; to try: end near step 20"),
        "{said}"
    );
    let rows = [steps(line(60, 1.386, 0.2, 0.01)), evaluations(&[(0, 1.386), (20, 1.3), (60, 1.691)])];
    assert!(verdict(&rows.concat()).expect("a verdict").contains("1.6910, more than it began with"));
}

#[test]
fn prompts_learned_by_heart_are_told_from_prompts_not_learned() {
    let rows = [steps(line(60, 1.386, 0.4, 0.01)), evaluations(&[(0, 1.386), (60, 1.3859)])].concat();
    assert!(verdict(&rows).expect("a verdict").contains("by heart"));
}

#[test]
fn a_run_that_learns_is_not_warned_about() {
    assert_eq!(verdict(&[steps(line(60, 1.386, 0.9, 0.05)), evaluations(&[(0, 1.386), (60, 1.1)])].concat()), None);
    assert_eq!(verdict(&steps(line(60, 1.386, 1.37, 0.002))), None);
    // The noise of other prompts is neither learning nor harm.
    assert_eq!(verdict(&steps(line(60, 2.0, 2.03, 0.2))), None);
    // Too short to say.
    assert_eq!(verdict(&steps(line(4, 1.3863, 1.3863, 0.0))), None);
    assert_eq!(verdict(&[]), None);
}

#[test]
fn advice_names_only_what_the_objective_has() {
    let plain = RunFacts::new("learning_rate: 1e-3\nobjective: {name: sft}\n", None);
    let said = Judge::from_rows(&steps(line(60, 1.0, 3.0, 0.01))).verdict(&plain).expect("a verdict").to_string();
    assert!(said.contains("now 1e-3") && !said.contains("beta"), "{said}");
    let said = Judge::from_rows(&steps([1.0; 20])).verdict(&plain).expect("a verdict").to_string();
    assert!(said.contains("three to ten times as high (now 1e-3)"), "{said}");
}

#[test]
fn even_weights_are_named_as_a_cause() {
    let mut rows = steps([1.3863; 20]);
    for row in &mut rows {
        (0..4).for_each(|rank| row.set(&format!("rewards/rank_{rank}"), 0.0));
        row.set("weights/entropy", 4f64.ln() * 0.999);
    }
    assert!(verdict(&rows).expect("a verdict").contains("a smaller alpha"));
}

#[test]
fn a_low_rate_is_warned_about_before_the_first_step() {
    assert!(
        facts()
            .low_rate(100)
            .is_some_and(|text| text.contains("learning_rate 5e-6 is low for an adapter in 100 steps"))
    );
    assert_eq!(facts().low_rate(2000), None);
    assert_eq!(RunFacts { learning_rate: 1e-4, ..facts() }.low_rate(100), None);
    assert_eq!(RunFacts { use_peft: false, ..facts() }.low_rate(100), None);
}
