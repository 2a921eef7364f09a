//! Which evaluation of a run is the best so far, and whether the run ends with it.
//!
//! [`check_figures`] looks at a recipe before its run, [`judge`] at the row of each evaluation, and [`reason_to_end`] at what
//! the rows come to, which a checkpoint keeps as its [`Standing`]. The crate must not know sessions, models or the run's
//! folder.

use collimate_checkpoint::{BestEvaluation, Standing, TrainerState};
use collimate_data::counted;
use collimate_recipe::Recipe;
use collimate_report::metrics::evaluation_row;
use collimate_report::{GroupFigures, GroupOutcome, MetricsRow};

/// A key names a figure that an evaluation does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("recipe: key \"{key}\": {message}")]
pub struct FigureError {
    /// The recipe's key.
    pub key: &'static str,
    /// What is wrong.
    pub message: String,
}

/// The keys that name figures of an evaluation.
const METRIC: &str = "metric_for_best_model";
const DRIFT: &str = "stop_on_drift";

/// Checks that an evaluation with this recipe has the figures that it names.
///
/// # Errors
/// It has not.
pub fn check_figures(recipe: &Recipe, has_reference: bool) -> Result<(), FigureError> {
    let outcome = GroupOutcome {
        implicit_rewards: vec![1.0, 0.0],
        rewards: vec![1.0, 0.0],
        policy_logps: vec![0.0; 2],
        reference_logps: has_reference.then(|| vec![0.0; 2]),
        num_tokens: vec![1; 2],
    };
    let mut groups = GroupFigures::new(recipe.objective.alpha());
    groups.add(&outcome);
    let row = evaluation_row(0, 0.0, 0.0, &groups);
    let known: Vec<&str> = row.names().filter(|name| name.starts_with("eval_")).collect();
    // How many ranks there are is up to the data.
    let is_rank = |name: &str| {
        known.iter().any(|known| {
            known.strip_suffix("rank_0").is_some_and(|start| {
                name.strip_prefix(start)
                    .and_then(|end| end.strip_prefix("rank_"))
                    .is_some_and(|k| k.parse::<usize>().is_ok())
            })
        })
    };
    let check = |key: &'static str, name: &str| match known.contains(&name) || is_rank(name) {
        true => Ok(()),
        false => {
            let message = format!("an evaluation has no figure {name}; it has {}", known.join(", "));
            Err(FigureError { key, message })
        }
    };
    recipe.best_by().iter().try_for_each(|best| check(METRIC, &best.figure))?;
    recipe.stop_on_drift.0.iter().try_for_each(|(name, _)| check(DRIFT, name))
}

/// Takes note of an evaluation; returns whether it is the best after a step.
///
/// # Errors
/// A figure that decides has no value.
pub fn judge(recipe: &Recipe, state: &mut TrainerState, row: &MetricsRow) -> Result<bool, FigureError> {
    let step = state.global_step;
    let figure = |key, name: &str| {
        row.get(name).ok_or_else(|| {
            let message = format!("{name} has no value in the evaluation after step {step}");
            FigureError { key, message }
        })
    };
    let standing = &mut state.standing;
    standing.last.clear();
    for (name, _) in &recipe.stop_on_drift.0 {
        let value = figure(DRIFT, name)?;
        standing.first.entry(name.clone()).or_insert(value);
        standing.last.insert(name.clone(), value);
    }
    let Some(by) = recipe.best_by() else { return Ok(false) };
    let value = figure(METRIC, &by.figure)?;
    if step == 0 {
        // What the run began with is no result of it.
        return Ok(false);
    }
    let gain = standing.best.map(|best| by.gain(value, best.value));
    // As transformers' callback counts.
    let improves = gain.is_none_or(|gain| gain > 0.0 && gain > recipe.early_stopping_threshold);
    standing.without_improvement = if improves { 0 } else { standing.without_improvement + 1 };
    let is_best = gain.is_none_or(|gain| gain > 0.0);
    if is_best {
        standing.best = Some(BestEvaluation { step, value });
    }
    Ok(is_best)
}

/// Why a run ends after its last evaluation although steps are left, if it does.
pub fn reason_to_end(recipe: &Recipe, standing: &Standing) -> Option<String> {
    let drifted = recipe.stop_on_drift.0.iter().find_map(|(name, limit)| {
        let (first, last) = (standing.first.get(name)?, standing.last.get(name)?);
        let moved = last - first;
        let is_beyond = if *limit < 0.0 { moved < *limit } else { moved > *limit };
        is_beyond.then(|| format!("{name} went from {first:.4} to {last:.4}, which is beyond the {limit} of {DRIFT}"))
    });
    let patience = recipe.early_stopping_patience.filter(|patience| standing.without_improvement >= *patience);
    let waited = patience.zip(recipe.best_by()).map(|(_, by)| {
        let best = standing.best.map(|BestEvaluation { step, value }| format!(" since step {step}, with {value:.4}"));
        let count = counted(standing.without_improvement, "evaluation");
        format!("{} has not improved in {count}{}", by.figure, best.unwrap_or_default())
    });
    drifted.or(waited)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn recipe(settings: &[(&str, &str)]) -> Recipe {
        let always = [("eval_fraction", "0.5"), ("eval_steps", "1")];
        let all = always.iter().chain(settings).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Recipe::parse(None, &all.collect::<Vec<_>>()).expect("a recipe").recipe
    }

    /// Evaluations with these losses, the first before any step: which were the best when they came, and after which the run
    /// ends.
    fn after(recipe: &Recipe, losses: &[f64]) -> (Vec<usize>, Option<usize>, TrainerState) {
        let mut state = TrainerState::default();
        let mut best = Vec::new();
        for (step, loss) in losses.iter().enumerate() {
            state.global_step = step;
            let mut row = MetricsRow::default();
            row.set("eval_loss", *loss);
            best.extend(judge(recipe, &mut state, &row).expect("a figure").then_some(step));
            if reason_to_end(recipe, &state.standing).is_some() {
                return (best, Some(step), state);
            }
        }
        (best, None, state)
    }

    #[rstest]
    #[case::falls(&[1.0, 0.9, 0.8, 0.7], &[1, 2, 3], None)]
    #[case::the_start_is_no_result(&[0.1, 0.9, 1.0, 0.95], &[1], Some(3))]
    #[case::an_improvement_starts_the_count_again(&[1.0, 0.9, 1.0, 0.8, 0.9, 0.8, 0.7], &[1, 3], Some(5))]
    fn a_run_ends_when_patience_is_used_up(#[case] losses: &[f64], #[case] best: &[usize], #[case] end: Option<usize>) {
        let recipe = recipe(&[("early_stopping_patience", "2")]);
        let (found, ended, _) = after(&recipe, losses);
        assert_eq!((found.as_slice(), ended), (best, end));
    }

    #[test]
    fn a_small_gain_is_best_and_does_not_count_as_improvement() {
        let recipe = recipe(&[("early_stopping_patience", "2"), ("early_stopping_threshold", "0.1")]);
        let (best, ended, state) = after(&recipe, &[1.0, 0.9, 0.85, 0.82, 0.1]);
        assert_eq!((best.as_slice(), ended), ([1, 2, 3].as_slice(), Some(3)));
        let reason = reason_to_end(&recipe, &state.standing).expect("a reason");
        assert_eq!(reason, "eval_loss has not improved in 2 evaluations since step 3, with 0.8200");
        let patient = self::recipe(&[("early_stopping_patience", "3")]);
        assert_eq!(reason_to_end(&patient, &state.standing), None);
    }

    #[rstest]
    #[case("{loss: 0.5}", &[1.0, 1.4, 1.5, 1.6, 0.0], Some(3))]
    #[case("{loss: -0.5}", &[1.0, 0.6, 0.5, 0.4], Some(3))]
    #[case("{loss: -0.5}", &[1.0, 2.0, 3.0], None)]
    fn a_run_ends_when_a_figure_drifts(#[case] limits: &str, #[case] losses: &[f64], #[case] end: Option<usize>) {
        assert_eq!(after(&recipe(&[("stop_on_drift", limits)]), losses).1, end);
    }

    #[test]
    fn figures_are_known_before_the_run() {
        let check = |key, value, has_reference| {
            check_figures(&recipe(&[("load_best_model_at_end", "true"), (key, value)]), has_reference)
        };
        for known in ["loss", "eval_rewards/accuracies", "logps/rank_7", "log_ratios/chosen"] {
            assert!(check(METRIC, known, true).is_ok(), "{known}");
        }
        let error = check(METRIC, "speed", true).expect_err("unknown").to_string();
        assert!(error.contains("no figure eval_speed; it has eval_loss, eval_rewards/chosen"), "{error}");
        assert!(check(DRIFT, "{log_ratios/chosen: -5}", false).is_err(), "there is no reference");
        assert!(check(DRIFT, "{logps/rank_x: -5}", true).is_err());
    }

    #[test]
    fn a_figure_without_a_value_is_an_error() {
        let recipe = recipe(&[("load_best_model_at_end", "true")]);
        let mut row = MetricsRow::default();
        row.set("eval_loss", f64::NAN);
        let error = judge(&recipe, &mut TrainerState::default(), &row).expect_err("no value").to_string();
        assert!(error.contains("eval_loss has no value in the evaluation after step 0"), "{error}");
    }
}
