//! A run from its first step, or its newest checkpoint, to its last.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use collimate_data::TokenizedGroup;
use collimate_objective::Objective;

use super::TrainSummary;
use super::step::StepInput;
use crate::batches::in_packs;
use crate::checkpoint::{self, TrainerState};
use crate::error::TrainError;
use crate::evaluation::HeldOut;
use crate::metrics::{MetricsRow, MetricsWriter, StepMetrics};
use crate::packs::MemoryPlan;
use crate::prepare::epoch_order;
use crate::progress::Observer;
use crate::recipe::{OnNonfinite, Recipe, StepPlan};
use crate::reference::Reference;
use crate::schedule::Schedule;
use crate::session::Session;

/// Everything that a run reads and does not change.
pub(super) struct Run<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) objective: &'a dyn Objective,
    pub(super) groups: Vec<TokenizedGroup>,
    /// Log-probs of the reference, by group; empty where the objective needs none or the run never visits the group.
    pub(super) reference: Option<Vec<Vec<f64>>>,
    pub(super) memory: MemoryPlan,
    held_out: Option<HeldOut>,
    plan: StepPlan,
    schedule: Schedule,
}

/// The checkpoint to go on from; without `resume` the output folder must not hold a run. Writes nothing.
pub(super) fn find_checkpoint(recipe: &Recipe, resume: bool) -> Result<Option<(PathBuf, TrainerState)>, TrainError> {
    let out = &recipe.output_dir;
    if resume {
        let found = checkpoint::newest(out)?;
        if let Some((path, state)) = &found
            && state.fingerprint != recipe_fingerprint(recipe)
        {
            let message = "is of a run with another recipe: go on with the recipe.yaml beside it".to_owned();
            return Err(TrainError::Checkpoint { path: path.clone(), message });
        }
        return Ok(found);
    }
    if out.join("metrics.jsonl").exists() || checkpoint::newest(out)?.is_some() {
        return Err(TrainError::OutputTaken { path: out.clone() });
    }
    Ok(None)
}

/// A hash of every key that changes what is computed; where a run is written and how often it reports do not.
fn recipe_fingerprint(recipe: &Recipe) -> String {
    let neutral = Recipe::default();
    let core = Recipe {
        output_dir: neutral.output_dir,
        logging_steps: neutral.logging_steps,
        save_steps: neutral.save_steps,
        save_total_limit: neutral.save_total_limit,
        num_threads: neutral.num_threads,
        reference_cache: neutral.reference_cache,
        ..recipe.clone()
    };
    let yaml = core.resolved_yaml().unwrap_or_default();
    blake3::hash(yaml.as_bytes()).to_hex()[..16].to_owned()
}

impl<'a> Run<'a> {
    pub(super) fn new(
        recipe: &'a Recipe,
        objective: &'a dyn Objective,
        groups: Vec<TokenizedGroup>,
        held_out: Option<HeldOut>,
        memory: MemoryPlan,
    ) -> Result<Self, TrainError> {
        let plan = recipe.step_plan(groups.len());
        let schedule = recipe.schedule(&plan);
        Ok(Self { recipe, objective, groups, reference: None, memory, held_out, plan, schedule })
    }

    /// Scores, with the policy as it starts, every group that the run will visit.
    pub(super) fn score_reference(
        &mut self,
        reference: &mut Reference,
        session: &mut dyn Session,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let packs = self.packs_to_score();
        let groups: Vec<Vec<_>> = packs.iter().map(|pack| pack.iter().map(|&i| &self.groups[i]).collect()).collect();
        let logps = reference.logps((&mut *session, &self.memory), &groups, observer)?;
        let mut all = vec![Vec::new(); self.groups.len()];
        for (&index, logps) in packs.iter().flatten().zip(logps) {
            // The first pack that a group is in counts.
            if all[index].is_empty() {
                all[index] = logps;
            }
        }
        self.reference = Some(all);
        if let Some(held_out) = &mut self.held_out {
            let groups: Vec<_> = held_out.groups.iter().collect();
            let packs = in_packs(&groups, self.recipe.per_device_eval_batch_size);
            held_out.reference = Some(reference.logps((session, &self.memory), &packs, observer)?);
        }
        Ok(())
    }

    /// The batches of the run, in its order, that hold a group for the first time.
    fn packs_to_score(&self) -> Vec<Vec<usize>> {
        let mut seen = vec![false; self.groups.len()];
        let mut packs = Vec::new();
        for step in 0..self.plan.total_steps {
            if seen.iter().all(|&s| s) {
                break;
            }
            for pack in self.visits(step).chunks(self.recipe.per_device_train_batch_size.max(1)) {
                if pack.iter().any(|&index| !seen[index]) {
                    pack.iter().for_each(|&index| seen[index] = true);
                    packs.push(pack.to_vec());
                }
            }
        }
        packs
    }

    /// The groups of a step, counted from 0; the last step of an epoch may have fewer.
    fn visits(&self, step: usize) -> Vec<usize> {
        let (epoch, place) = (step / self.plan.steps_per_epoch, step % self.plan.steps_per_epoch);
        let order = epoch_order(self.groups.len(), self.recipe.shuffle, self.recipe.seed, epoch);
        let size = self.recipe.groups_per_step();
        order.into_iter().skip(place * size).take(size).collect()
    }

    pub(super) fn all_steps(
        &self,
        session: &mut dyn Session,
        checkpoint: Option<(PathBuf, TrainerState)>,
        observer: &mut dyn Observer,
    ) -> Result<TrainSummary, TrainError> {
        let recipe_yaml = self.recipe.resolved_yaml()?;
        let out = &self.recipe.output_dir;
        let metrics_path = out.join("metrics.jsonl");
        let fresh = checkpoint.is_none();
        let (mut writer, mut state) = match checkpoint {
            Some((path, state)) => {
                session.load_checkpoint(&path)?;
                observer.note(&format!("resuming after step {} from {}", state.global_step, path.display()));
                (MetricsWriter::resume(&metrics_path, state.global_step)?, state)
            }
            None => (MetricsWriter::create(&metrics_path)?, self.first_state()),
        };
        let recipe_path = out.join("recipe.yaml");
        fs::write(&recipe_path, &recipe_yaml).map_err(|source| TrainError::io(&recipe_path, source))?;
        let mut evaluations = Vec::new();
        if fresh {
            self.evaluate(session, &state, &mut writer, &mut evaluations, observer)?;
        }
        let mut last = None;
        self.begin_stage(&state, observer);
        while state.global_step < self.plan.total_steps {
            let row = self.one_step(session, &mut state, observer)?;
            let done = state.global_step == self.plan.total_steps;
            if done || state.global_step.is_multiple_of(self.recipe.logging_steps.max(1)) {
                writer.write(&row)?;
            }
            last = Some(row);
            let evaluates = self.recipe.evaluates_after(state.global_step, &self.plan);
            if self.held_out.is_some() && (evaluates || done) {
                observer.finish();
                self.evaluate(session, &state, &mut writer, &mut evaluations, observer)?;
                self.begin_stage(&state, observer);
            }
            if done || self.recipe.saves_after(state.global_step) {
                checkpoint::save(out, session, &state, &recipe_yaml, self.recipe.save_total_limit)?;
            }
        }
        observer.finish();
        Ok(TrainSummary {
            output_dir: out.clone(),
            num_steps: state.global_step,
            num_groups: self.groups.len(),
            last,
            evaluations,
            num_skipped_steps: state.num_skipped_steps,
            seconds: 0.0,
        })
    }

    fn first_state(&self) -> TrainerState {
        TrainerState {
            global_step: 0,
            epoch: 0.0,
            max_steps: self.plan.total_steps,
            num_tokens: 0,
            num_skipped_steps: 0,
            fingerprint: recipe_fingerprint(self.recipe),
        }
    }

    fn begin_stage(&self, state: &TrainerState, observer: &mut dyn Observer) {
        let left = self.plan.total_steps - state.global_step;
        if left > 0 {
            observer.stage(&format!("training with {}", self.recipe.objective.name), Some(left as u64));
        }
    }

    fn one_step(
        &self,
        session: &mut dyn Session,
        state: &mut TrainerState,
        observer: &mut dyn Observer,
    ) -> Result<MetricsRow, TrainError> {
        let begun = Instant::now();
        let step = state.global_step;
        let learning_rate = self.schedule.lr(step);
        let visits = self.visits(step);
        let outcome = self.take_step(session, &StepInput { step, learning_rate, visits: &visits })?;
        if !outcome.applied {
            let what = if outcome.loss.is_finite() { "gradient" } else { "loss" };
            if self.recipe.on_nonfinite == OnNonfinite::Stop {
                let lines: Vec<_> = visits.iter().map(|&i| self.groups[i].line.to_string()).collect();
                return Err(TrainError::NotFinite { step: step + 1, what, lines: lines.join(", ") });
            }
            state.num_skipped_steps += 1;
            observer.note(&format!("step {}: left out, its {what} is not finite", step + 1));
        }
        state.global_step += 1;
        state.epoch = state.global_step as f64 / self.plan.steps_per_epoch as f64;
        state.num_tokens += outcome.num_tokens;
        let row = StepMetrics {
            step: state.global_step,
            epoch: state.epoch,
            loss: outcome.loss,
            aux_loss: outcome.aux_loss,
            grad_norm: outcome.grad_norm,
            learning_rate,
            groups: &outcome.groups,
            alpha: self.recipe.objective.number("alpha"),
            num_tokens: state.num_tokens,
            step_seconds: begun.elapsed().as_secs_f64(),
        }
        .row();
        observer.step(&row);
        observer.advance(1);
        Ok(row)
    }

    fn evaluate(
        &self,
        session: &mut dyn Session,
        state: &TrainerState,
        writer: &mut MetricsWriter,
        evaluations: &mut Vec<MetricsRow>,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let Some(held_out) = &self.held_out else { return Ok(()) };
        let at = (state.global_step, state.epoch);
        let row = held_out.evaluate((session, &self.memory), self.objective, self.recipe, at, observer)?;
        writer.write(&row)?;
        evaluations.push(row);
        Ok(())
    }
}
