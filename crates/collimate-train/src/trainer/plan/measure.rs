//! Times a few steps in memory, to forecast the time of the whole run.

use std::collections::BTreeSet;
use std::time::Instant;

use collimate_recipe::{CacheFolder, Recipe};
use collimate_text::TokenizedGroup;

use super::{PlannedSteps, PlannedTime};
use crate::control::RunContext;
use crate::error::TrainError;
use crate::reference::Reference;
use crate::trainer::run::Run;
use crate::trainer::step::take_step;
use collimate_collective::Ranks;
use collimate_collective::StopFlag;
use collimate_progress::Observer;
use collimate_session::CheckedSession;

/// Maximum number of steps to run. The first is not timed if there are others: it touches memory for the first time.
const NUM_STEPS: usize = 3;

/// Scores the reference and takes the first steps, then discards them.
pub(super) fn time(
    planned: Run<'_>,
    session: CheckedSession,
    steps: &PlannedSteps,
    observer: &mut dyn Observer,
) -> Result<PlannedTime, TrainError> {
    let num_steps = steps.total.unwrap_or(1).min(NUM_STEPS);
    let recipe = &Recipe {
        max_steps: num_steps as i64,
        reference_cache: CacheFolder::Off,
        eval_data: None,
        ..planned.recipe.clone()
    };
    let run = Run::new(recipe, planned.objective, planned.budget, planned.training, None)?;
    let beside = session.options_beside();
    let mut session = session.open()?;
    let stop = StopFlag::default();
    let mut reference_seconds = 0.0;
    if run.objective.needs().reference {
        let mut reference = Reference::open(recipe, &beside, true)?;
        let begun = Instant::now();
        run.score_reference(&mut reference, session.as_mut(), &mut RunContext::new(&stop, &mut *observer))?;
        reference_seconds = begun.elapsed().as_secs_f64() * reference_share(&run, num_steps, steps)?;
    }
    observer.stage("measuring steps", Some(num_steps as u64));
    let (mut seconds, mut tokens) = (0.0, 0);
    for step in 0..num_steps {
        let begun = Instant::now();
        let outcome = take_step(&run, session.as_mut(), step, &Ranks::solo(&stop))?;
        if step > 0 || num_steps == 1 {
            seconds += begun.elapsed().as_secs_f64();
            tokens += outcome.num_tokens();
        }
        observer.advance(1);
    }
    observer.finish();
    let tokens_per_second = tokens as f64 / seconds;
    let step_seconds = steps.tokens as f64 / tokens_per_second / steps.total.unwrap_or(1) as f64;
    let total_seconds = steps.total.map(|total| reference_seconds + total as f64 * step_seconds);
    Ok(PlannedTime { measured_steps: num_steps, tokens_per_second, step_seconds, reference_seconds, total_seconds })
}

/// Ratio of the tokens that the reference scores in the whole run to those it scored for the first steps.
fn reference_share(run: &Run<'_>, num_steps: usize, steps: &PlannedSteps) -> Result<f64, TrainError> {
    let visited: BTreeSet<usize> = (0..num_steps).flat_map(|step| run.visits(step)).collect();
    let visited = run.training.select(&visited.into_iter().collect::<Vec<_>>())?;
    let scored: usize = visited.iter().map(TokenizedGroup::num_tokens).sum();
    let visits = steps.total.unwrap_or(1) as f64 * steps.groups_per_step as f64;
    let share = (visits / run.training.len() as f64).min(1.0);
    Ok(share * run.training.totals().num_tokens() as f64 / scored.max(1) as f64)
}
