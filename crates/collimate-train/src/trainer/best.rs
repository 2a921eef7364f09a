//! The weights of the best evaluation, at the end of a run.

use collimate_checkpoint::{BestEvaluation, TrainerState, after_step};
use collimate_progress::SavedBest;
use collimate_recipe::Recipe;
use collimate_session::Session;

use crate::control::RunContext;
use crate::error::TrainError;

/// Brings back the weights of the best evaluation, if the recipe asks for them.
///
/// # Errors
/// Their checkpoint is gone or damaged, or another rank has ended.
pub(super) fn load_best(
    recipe: &Recipe,
    state: &TrainerState,
    session: &mut dyn Session,
    context: &mut RunContext<'_>,
) -> Result<Option<SavedBest>, TrainError> {
    let asked = recipe.best_by().filter(|_| recipe.load_best_model_at_end);
    let Some((by, BestEvaluation { step, value })) = asked.zip(state.standing.best) else { return Ok(None) };
    if step != state.global_step {
        let found = context.ranks.agree(after_step(&recipe.output_dir, step).map_err(TrainError::from))?;
        session.load_checkpoint(&found.path, context.ranks.world())?;
    }
    let line =
        format!("the best evaluation is that after step {step}, {} {value:.4}: its weights are saved", by.figure);
    Ok(Some(SavedBest { step, line }))
}
