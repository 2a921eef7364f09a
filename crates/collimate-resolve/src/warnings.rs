//! What is allowed in a recipe and hardly ever meant.

use collimate_recipe::{IntervalStrategy, ParsedRecipe, Recipe};

/// Learning rates above this are warned about; AdamW moves each weight by about as much in a step.
const LARGE_RATE: f64 = 1e-2;

/// Warnings about a recipe whose files are found.
pub(crate) fn warnings(parsed: &ParsedRecipe, recipe: &Recipe) -> Vec<String> {
    let mut warnings = Vec::new();
    let rate = recipe.learning_rate;
    if rate > LARGE_RATE && rate.is_finite() {
        warnings.push(format!(
            "warning: learning_rate {rate} is far above what is usual, 1e-7 to 1e-3: a step moves each weight by about as much"
        ));
    }
    let asked = ["eval_steps", "eval_strategy"].into_iter().find(|key| parsed.is_set(key));
    let never = recipe.eval_strategy == IntervalStrategy::No
        || (recipe.eval_strategy == IntervalStrategy::Steps && recipe.eval_steps.is_zero());
    let has_data = recipe.eval_data.is_some() || recipe.eval_fraction > 0.0;
    if let Some(key) = asked.filter(|_| !never && !has_data) {
        warnings.push(format!(
            "warning: nothing is evaluated in spite of {key}: the recipe has no eval_data, and eval_fraction is 0"
        ));
    }
    warnings
}
