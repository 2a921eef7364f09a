//! `collimate train` without arguments: word problems.

use std::path::{Path, PathBuf};

use collimate_recipe::Recipe;
use collimate_train::{Observer, StopFlag, TrainError};

use crate::assets::FILES;
use crate::base::BaseFiles;
use crate::phases::{free_folder_of, recipe_of};
use crate::problems::{Problem, Split, distinct_problems};
use crate::task::{Questions, Task};

pub use crate::phases::{Quickstart, QuickstartSummary};

/// How many problems the quickstart uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuickstartSize {
    /// Problems to sample responses for and train on.
    pub num_problems: usize,
    /// Held-out problems to measure accuracy on.
    pub num_held_out: usize,
}

impl Default for QuickstartSize {
    fn default() -> Self {
        Self { num_problems: 512, num_held_out: 200 }
    }
}

/// Word problems are the task; its size is that of a run.
impl Task for QuickstartSize {
    type Question = Problem;

    fn base(&self) -> BaseFiles {
        FILES
    }

    fn about(&self) -> &'static str {
        "quickstart: a model of 0.8 million parameters learns word problems from rewards"
    }

    fn questions(&self, _run: &Path, seed: u64) -> Result<Questions<Problem>, TrainError> {
        Ok(Questions {
            held_out: distinct_problems(1, Split::HeldOut).take(self.num_held_out).collect(),
            training: distinct_problems(seed, Split::Train).take(self.num_problems).collect(),
        })
    }
}

/// The quickstart's recipe, overridden by the user's settings.
///
/// # Errors
/// An unknown setting, or an invalid value.
pub fn recipe(settings: &[(String, String)]) -> Result<Recipe, TrainError> {
    let defaults = [
        ("objective", "nca"),
        ("learning_rate", "2e-4"),
        ("per_device_train_batch_size", "16"),
        ("num_train_epochs", "2"),
        ("max_length", "128"),
        ("max_prompt_length", "64"),
    ];
    recipe_of(&defaults, own_settings, settings)
}

/// `runs/quickstart-NAME`, or the first of `-2`, `-3`, … that holds no run yet.
pub fn free_folder(objective: &str) -> PathBuf {
    free_folder_of("quickstart", objective)
}

/// Settings that suit an objective on the quickstart's rewards better than its defaults.
///
/// With β = 1 the target is π_ref · e^{r/α}. For NCA, α = 0.15 puts nearly all weight on right answers and still
/// separates half-right from wrong ones. InfoNCA fixes no absolute level: with NCA's settings one seed in three lost
/// what the base model could do (docs/log.md), so its targets are closer and its steps smaller.
fn own_settings(name: &str) -> &'static [(&'static str, &'static str)] {
    match name {
        "nca" => &[("objective.beta", "1"), ("objective.alpha", "0.15")],
        "infonca" => &[("objective.beta", "1"), ("objective.alpha", "0.33"), ("learning_rate", "1e-4")],
        "dpo" => &[("objective.beta", "0.3")],
        _ => &[],
    }
}

/// Runs the whole quickstart in the recipe's output folder.
///
/// # Errors
/// As [`Quickstart::sample`] and [`Quickstart::train`].
pub fn run(
    recipe: Recipe,
    size: QuickstartSize,
    observer: &mut dyn Observer,
    stop: &StopFlag,
) -> Result<QuickstartSummary, TrainError> {
    let mut quickstart = Quickstart::sample(&size, recipe, observer)?;
    let trained = quickstart.train(observer, stop)?;
    quickstart.finish(&trained, observer)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::recipe;

    fn settings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[rstest]
    #[case::own(&[("objective", "infonca")], 1e-4, Some(0.33))]
    #[case::learning_rate_set(&[("objective", "infonca"), ("learning_rate", "1e-3")], 1e-3, Some(0.33))]
    #[case::parameter_set(&[("objective", "infonca"), ("objective.alpha", "0.5")], 1e-4, Some(0.5))]
    #[case::no_parameters(&[("objective", "sft")], 2e-4, None)]
    fn what_the_user_sets_wins_over_the_quickstarts_settings(
        #[case] given: &[(&str, &str)],
        #[case] learning_rate: f64,
        #[case] alpha: Option<f64>,
    ) {
        let recipe = recipe(&settings(given)).expect("a recipe");
        assert_eq!(recipe.learning_rate, learning_rate);
        assert_eq!(recipe.objective.number("alpha"), alpha);
    }
}
