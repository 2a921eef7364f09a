//! How many responses a row may have.

use collimate_data::MostResponses;
use collimate_objective::registry;
use collimate_recipe::Recipe;

use crate::error::TrainError;

/// How many responses the recipe's objective takes, in memory that a batch may have.
pub(crate) fn most_responses(recipe: &Recipe) -> Result<MostResponses, TrainError> {
    let needs = registry::build(&recipe.objective.name, &recipe.objective.params)?.needs();
    let of = format!("the objective \"{}\"", recipe.objective.name);
    Ok(MostResponses { count: needs.most_responses(recipe.groups_per_step()), of })
}
