//! Which evaluation of a run is the best, and which figures may not move.

use crate::figure_limits::in_row;
use crate::interval::NumSteps;
use crate::recipe::Recipe;
use crate::strategy::IntervalStrategy;

/// What decides which of two evaluations is better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BestBy {
    /// The figure by its name in the row of an evaluation, as `eval_loss`.
    pub figure: String,
    /// Whether more of it is better.
    pub greater_is_better: bool,
}

impl BestBy {
    /// How much better a value is than another; negative if it is worse.
    pub fn gain(&self, new: f64, old: f64) -> f64 {
        if self.greater_is_better { new - old } else { old - new }
    }
}

impl Recipe {
    /// What decides which evaluation is best, if the recipe asks for the best.
    pub fn best_by(&self) -> Option<BestBy> {
        let asks = self.load_best_model_at_end || self.early_stopping_patience.is_some();
        asks.then(|| {
            let figure = in_row(self.metric_for_best_model.as_deref().unwrap_or("loss"));
            let greater_is_better = self.greater_is_better.unwrap_or(!figure.ends_with("loss"));
            BestBy { figure, greater_is_better }
        })
    }

    /// The keys that need evaluations before the end of the run.
    fn watching_keys(&self) -> impl Iterator<Item = &'static str> {
        let best = self.load_best_model_at_end.then_some("load_best_model_at_end");
        let patience = self.early_stopping_patience.is_some().then_some("early_stopping_patience");
        let drift = (!self.stop_on_drift.0.is_empty()).then_some("stop_on_drift");
        best.into_iter().chain(patience).chain(drift)
    }

    /// What is wrong with the keys that look at evaluations: the key, and the problem.
    pub(crate) fn problem_with_best(&self) -> Option<(&'static str, String)> {
        if self.early_stopping_patience == Some(0) {
            return Some(("early_stopping_patience", "must be at least 1, is 0".to_owned()));
        }
        let threshold = self.early_stopping_threshold;
        if threshold < 0.0 {
            return Some(("early_stopping_threshold", format!("must be at least 0, is {threshold}")));
        }
        let key = self.watching_keys().next()?;
        if self.eval_data.is_none() && self.eval_fraction == 0.0 {
            return Some((key, "needs held-out data: set eval_data or eval_fraction".to_owned()));
        }
        let only_at_ends = match self.eval_strategy {
            IntervalStrategy::No => true,
            IntervalStrategy::Steps => self.eval_steps == NumSteps::Count(0),
            IntervalStrategy::Epoch => false,
        };
        only_at_ends
            .then(|| (key, "needs evaluations during training: set eval_steps or eval_strategy: epoch".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::trl_tests::load;

    fn parse(yaml: &str) -> Result<Recipe, String> {
        load(yaml, &[]).map(|parsed| parsed.recipe).map_err(|error| error.to_string())
    }

    #[rstest]
    #[case::loss("load_best_model_at_end: true\n", "eval_loss", false)]
    #[case::of_trl(
        "load_best_model_at_end: true\nmetric_for_best_model: eval_rewards/accuracies\n",
        "eval_rewards/accuracies",
        true
    )]
    #[case::patience(
        "early_stopping_patience: 3\nmetric_for_best_model: rewards/margins\n",
        "eval_rewards/margins",
        true
    )]
    #[case::named_loss("early_stopping_patience: 3\nmetric_for_best_model: aux_loss\n", "eval_aux_loss", false)]
    #[case::said("load_best_model_at_end: true\ngreater_is_better: true\n", "eval_loss", true)]
    fn the_best_is_by_a_figure_and_a_direction(#[case] yaml: &str, #[case] figure: &str, #[case] greater: bool) {
        let recipe = parse(&format!("{yaml}eval_fraction: 0.1\neval_steps: 5\n")).expect("a recipe");
        assert_eq!(recipe.best_by(), Some(BestBy { figure: figure.to_owned(), greater_is_better: greater }));
    }

    #[test]
    fn nothing_is_best_where_nobody_asks() {
        let recipe = parse("metric_for_best_model: loss\neval_fraction: 0.1\n").expect("a recipe");
        assert_eq!(recipe.best_by(), None);
    }

    #[test]
    fn gains_follow_the_direction() {
        let by = |greater_is_better| BestBy { figure: String::new(), greater_is_better };
        assert_eq!((by(true).gain(3.0, 1.0), by(false).gain(3.0, 1.0)), (2.0, -2.0));
    }

    #[rstest]
    #[case("load_best_model_at_end: true\neval_steps: 5\n", "1:1: key \"load_best_model_at_end\": needs held-out data")]
    #[case(
        "early_stopping_patience: 2\neval_fraction: 0.1\n",
        "1:1: key \"early_stopping_patience\": needs evaluations during"
    )]
    #[case("early_stopping_patience: 0\n", "1:1: key \"early_stopping_patience\": must be at least 1, is 0")]
    #[case("early_stopping_threshold: -1\n", "1:1: key \"early_stopping_threshold\": must be at least 0, is -1")]
    #[case("stop_on_drift: {logps/chosen: -1}\neval_fraction: 0.1\n", "1:1: key \"stop_on_drift\": needs evaluations")]
    #[case(
        "stop_on_drift: {logps/chosen: 0}\n",
        "1:1: key \"stop_on_drift\": expected a table of figures and numbers other than 0"
    )]
    #[case("stop_on_drift: -5\n", "1:1: key \"stop_on_drift\": expected a table")]
    fn what_could_never_act_is_refused(#[case] yaml: &str, #[case] message: &str) {
        let error = parse(yaml).expect_err("refused");
        assert!(error.contains(message), "{error}");
    }

    #[test]
    fn limits_are_written_as_they_are_read() {
        let yaml = "stop_on_drift: {log_ratios/chosen: -5, eval_lengths/correlation: 0.2}\neval_fraction: 0.1\neval_strategy: epoch\n";
        let recipe = parse(yaml).expect("a recipe");
        let limits = [("eval_log_ratios/chosen".to_owned(), -5.0), ("eval_lengths/correlation".to_owned(), 0.2)];
        assert_eq!(recipe.stop_on_drift.0, limits);
        assert_eq!(parse(&recipe.resolved_yaml().expect("YAML")), Ok(recipe));
    }
}
