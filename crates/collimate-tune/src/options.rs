//! The settings of a tuning.

use std::path::PathBuf;

use collimate_objective::registry;
use collimate_recipe::Recipe;
use collimate_train::{TrainError, check_recipe};
use serde_json::{Value, json};

use crate::error::TuneError;
use crate::knobs::{Range, ranges};
use crate::reward::RewardScore;

/// What a tuning was begun with, in its folder.
pub(crate) const RECORD: &str = "tune.json";
/// Most candidates.
const MOST_CANDIDATES: usize = 256;

/// The settings of a tuning.
#[derive(Debug)]
pub struct TuneOptions {
    /// The recipe; its `seed` is that of the candidates too.
    pub recipe: Recipe,
    /// Folder of the runs.
    pub folder: PathBuf,
    /// Seconds that it may take. A run that has begun is taken to its rung.
    pub budget: f64,
    /// Number of candidates, at least 2, the recipe's own setting among them.
    pub candidates: usize,
    /// Seeds with which each finalist is run, at least 1.
    pub seeds: usize,
    /// Ranges of what is varied, in place of a factor of five either way.
    pub ranges: Vec<Range>,
    /// Scores sampled answers; without it the accuracy on held-out data is the score.
    pub reward: Option<RewardScore>,
    /// Whether to go on with what is in the folder.
    pub resume: bool,
}

/// Checks what needs no model in memory.
///
/// # Errors
/// A number out of range, a range that the objective lacks, no held-out data, or a recipe that cannot be run.
pub fn check(options: &TuneOptions) -> Result<(), TuneError> {
    let TuneOptions { recipe, candidates, seeds, budget, .. } = options;
    if !(2..=MOST_CANDIDATES).contains(candidates) {
        return Err(TuneError::option("--candidates", format!("must be from 2 to {MOST_CANDIDATES}")));
    }
    if *seeds == 0 || !(budget.is_finite() && *budget > 0.0) {
        return Err(TuneError::option(if *seeds == 0 { "--seeds" } else { "--budget" }, "must be above 0"));
    }
    registry::build(&recipe.objective.name, &recipe.objective.params).map_err(TrainError::from)?;
    if recipe.eval_data.is_none() && recipe.eval_fraction <= 0.0 {
        let message = "must be above 0, or eval_data given: candidates are compared on held-out data".to_owned();
        return Err(TrainError::RecipeValue { key: "eval_fraction", message }.into());
    }
    ranges(recipe, &options.ranges)?;
    if options.folder.join(RECORD).exists() && !options.resume {
        let problem = format!("{} holds a tuning already: give --resume to go on with it", options.folder.display());
        return Err(TuneError::option("--work", problem));
    }
    Ok(check_recipe(recipe)?)
}

impl TuneOptions {
    /// What results depend on, to compare with when a tuning goes on. The budget may change.
    pub(crate) fn settings(&self) -> Result<Value, TuneError> {
        let recipe = self.recipe.resolved_yaml().map_err(TrainError::from)?;
        let ranges = ranges(&self.recipe, &self.ranges)?;
        let ranges: Vec<_> = ranges.iter().map(|range| json!([range.knob.name(), range.low, range.high])).collect();
        let reward = self.reward.as_ref().map(|reward| {
            let program = format!("{:?}", reward.program.command);
            json!([program, reward.prompts, reward.num_responses, reward.max_new_tokens])
        });
        Ok(json!({
            "recipe": recipe, "candidates": self.candidates, "seeds": self.seeds, "ranges": ranges, "reward": reward,
        }))
    }
}
