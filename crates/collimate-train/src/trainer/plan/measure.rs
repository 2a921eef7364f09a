//! A few steps of a run in memory, to tell how long all of it takes.

use std::collections::BTreeSet;
use std::time::Instant;

use collimate_objective::{Needs, registry};
use collimate_recipe::{Recipe, ReferenceCache};

use super::rows::PaperRows;
use super::{PlannedSteps, PlannedTime};
use crate::error::TrainError;
use crate::packs::MemoryPlan;
use crate::progress::Observer;
use crate::reference::Reference;
use crate::session::{SessionOptions, open_session};
use crate::stop::StopFlag;
use crate::trainer::run::Run;
use crate::trainer::step::StepInput;

/// Steps that are computed at most. The first is left out where there are others: it touches memory for the first time.
const NUM_STEPS: usize = 3;

/// Computes the reference and the first steps, and forgets them.
pub(super) fn time(
    recipe: &Recipe,
    options: &SessionOptions,
    rows: PaperRows,
    memory: MemoryPlan,
    (steps, needs): (&PlannedSteps, &Needs),
    observer: &mut dyn Observer,
) -> Result<PlannedTime, TrainError> {
    let objective = registry::build(&recipe.objective.name, &recipe.objective.params)?;
    let num_steps = steps.total.unwrap_or(1).min(NUM_STEPS);
    let recipe = &Recipe {
        max_steps: num_steps as i64,
        reference_cache: ReferenceCache::Off,
        eval_data: None,
        ..recipe.clone()
    };
    let mut session = open_session(options)?;
    let mut run = Run::new(recipe, objective.as_ref(), (rows.groups, rows.files), None, memory);
    let mut reference_seconds = 0.0;
    if needs.reference {
        let mut reference = Reference::open(recipe, options)?;
        let begun = Instant::now();
        run.score_reference(&mut reference, session.as_mut(), (&StopFlag::default(), &mut *observer))?;
        reference_seconds = begun.elapsed().as_secs_f64() * to_score(&run, num_steps, steps);
    }
    observer.stage("measuring steps", Some(num_steps as u64));
    let (mut seconds, mut tokens) = (0.0, 0);
    for step in 0..num_steps {
        let begun = Instant::now();
        let visits = run.visits(step);
        let input = StepInput { step, learning_rate: run.learning_rate(step), visits: &visits };
        let outcome = run.take_step(session.as_mut(), &input)?;
        if step > 0 || num_steps == 1 {
            seconds += begun.elapsed().as_secs_f64();
            tokens += outcome.num_tokens;
        }
        observer.advance(1);
    }
    observer.finish();
    let tokens_per_second = tokens as f64 / seconds;
    let step_seconds = steps.tokens as f64 / tokens_per_second / steps.total.unwrap_or(1) as f64;
    let total_seconds = steps.total.map(|total| reference_seconds + total as f64 * step_seconds);
    Ok(PlannedTime { measured_steps: num_steps, tokens_per_second, step_seconds, reference_seconds, total_seconds })
}

/// How many times the tokens of the first steps' groups the reference has to score in the whole run.
fn to_score(run: &Run<'_>, num_steps: usize, steps: &PlannedSteps) -> f64 {
    let tokens =
        |groups: &mut dyn Iterator<Item = usize>| -> usize { groups.map(|index| run.groups[index].num_tokens()).sum() };
    let visited: BTreeSet<usize> = (0..num_steps).flat_map(|step| run.visits(step)).collect();
    let scored = tokens(&mut visited.into_iter());
    let visits = steps.total.unwrap_or(1) * steps.groups_per_step;
    let share = (visits as f64 / run.groups.len() as f64).min(1.0);
    share * tokens(&mut (0..run.groups.len())) as f64 / scored.max(1) as f64
}
