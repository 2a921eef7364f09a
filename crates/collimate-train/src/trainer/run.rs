//! A run from its first step, or its newest checkpoint, to its last.

use std::time::Instant;

use collimate_data::DataFiles;
use collimate_files::write_atomically;
use collimate_objective::Objective;
use collimate_recipe::{OnNonfinite, Recipe, Schedule, StepCounts};
use collimate_report::{MetricsRow, StepMetrics};
use collimate_text::TokenizedGroup;

use super::TrainSummary;
use super::record::Record;
use super::step::StepInput;
use crate::batches::in_packs;
use crate::checkpoint::{self, Checkpoint, TrainerState};
use crate::error::TrainError;
use crate::evaluation::HeldOut;
use crate::packs::MemoryPlan;
use crate::prepare::epoch_order;
use crate::progress::Observer;
use crate::reference::Reference;
use crate::session::Session;
use crate::stop::StopFlag;

/// Everything that a run reads and does not change.
pub(super) struct Run<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) objective: &'a dyn Objective,
    pub(super) groups: Vec<TokenizedGroup>,
    /// Where the groups come from, by their index.
    pub(super) files: DataFiles,
    /// Log-probs of the reference, by group; empty where the objective needs none or the run never visits the group.
    pub(super) reference: Option<Vec<Vec<f64>>>,
    pub(super) memory: MemoryPlan,
    held_out: Option<HeldOut>,
    plan: StepCounts,
    schedule: Schedule,
}

/// The checkpoint to go on from; without `resume` the output folder must not hold a run. Writes nothing.
pub(super) fn find_checkpoint(
    recipe: &Recipe,
    resume: bool,
    observer: &mut dyn Observer,
) -> Result<Option<Checkpoint>, TrainError> {
    let out = &recipe.output_dir;
    if !resume {
        if out.join("metrics.jsonl").exists() || checkpoint::has_any(out)? {
            return Err(TrainError::OutputTaken { path: out.clone() });
        }
        return Ok(None);
    }
    let (found, warnings) = checkpoint::newest(out)?;
    warnings.iter().for_each(|warning| observer.note(&format!("warning: {warning}")));
    match found {
        Some(found) if found.state.fingerprint != recipe_fingerprint(recipe) => {
            let message = format!("is of a run with another recipe{}", differences(&found, recipe)?);
            Err(TrainError::Checkpoint { path: found.path, message })
        }
        found => Ok(found),
    }
}

/// The recipe without the keys that change nothing that is computed: where a run is written, how often it reports.
fn core(recipe: &Recipe) -> Recipe {
    let neutral = Recipe::default();
    Recipe {
        output_dir: neutral.output_dir,
        logging_steps: neutral.logging_steps,
        logging_strategy: neutral.logging_strategy,
        logging_first_step: neutral.logging_first_step,
        save_strategy: neutral.save_strategy,
        save_steps: neutral.save_steps,
        save_total_limit: neutral.save_total_limit,
        max_shard_size: neutral.max_shard_size,
        num_threads: neutral.num_threads,
        reference_cache: neutral.reference_cache,
        alarm_chosen_drop: neutral.alarm_chosen_drop,
        sample_prompts: neutral.sample_prompts,
        sample_max_new_tokens: neutral.sample_max_new_tokens,
        tensorboard: neutral.tensorboard,
        ..recipe.clone()
    }
}

/// A hash of every key that changes what is computed.
fn recipe_fingerprint(recipe: &Recipe) -> String {
    let yaml = core(recipe).resolved_yaml().unwrap_or_default();
    blake3::hash(yaml.as_bytes()).to_hex()[..16].to_owned()
}

/// The keys in which a checkpoint's recipe differs, for people.
fn differences(checkpoint: &Checkpoint, recipe: &Recipe) -> Result<String, TrainError> {
    let lines = |yaml: String| yaml.lines().map(str::to_owned).collect::<Vec<_>>();
    let (there, core, here) =
        (lines(checkpoint.recipe_yaml()?), lines(core(recipe).resolved_yaml()?), lines(recipe.resolved_yaml()?));
    // Keys that are the same whatever the recipe says are neutral.
    let counts = |line: &String| core.contains(line) && !there.contains(line);
    let differing: Vec<String> = here
        .iter()
        .filter(|line| counts(line))
        .map(|line| {
            let key = line.split(':').next().unwrap_or_default();
            let other = there.iter().find(|other| other.split(':').next() == Some(key));
            let other = other.and_then(|other| other.split_once(':')).map_or("absent", |(_, value)| value.trim());
            format!("{} (there {other})", line.trim())
        })
        .collect();
    let listed = if differing.is_empty() { String::new() } else { format!(": {}", differing.join(", ")) };
    Ok(format!("{listed}; go on with the recipe.yaml beside it, or choose another --output"))
}

impl<'a> Run<'a> {
    pub(super) fn new(
        recipe: &'a Recipe,
        objective: &'a dyn Objective,
        (groups, files): (Vec<TokenizedGroup>, DataFiles),
        held_out: Option<HeldOut>,
        memory: MemoryPlan,
    ) -> Self {
        let plan = recipe.step_counts(groups.len());
        let schedule = recipe.schedule(&plan);
        Self { recipe, objective, groups, files, reference: None, memory, held_out, plan, schedule }
    }

    /// The groups that it is evaluated on, where there are any.
    pub(super) fn held_out(&self) -> Option<&[TokenizedGroup]> {
        self.held_out.as_ref().map(|held_out| &held_out.groups[..])
    }

    /// How many steps it has.
    pub(super) fn step_counts(&self) -> &StepCounts {
        &self.plan
    }

    /// The groups that its sample prompts are of: held out, or else of the training data.
    pub(super) fn shown(&self) -> (&[TokenizedGroup], &DataFiles) {
        match &self.held_out {
            Some(held_out) => (&held_out.groups, &held_out.files),
            None => (&self.groups, &self.files),
        }
    }

    /// Whether a checkpoint is of a run on the same data with the same reference.
    pub(super) fn accept(&self, checkpoint: Option<&Checkpoint>, reference: Option<&str>) -> Result<(), TrainError> {
        let Some(Checkpoint { path, state }) = checkpoint else { return Ok(()) };
        let refuse = |what: &str| {
            let message = format!("is of a run with {what}; a run that goes on needs what it began with");
            Err(TrainError::Checkpoint { path: path.clone(), message })
        };
        if state.data != self.data_fingerprint() {
            return refuse("other data, or another tokenizer");
        }
        if state.reference.as_deref() != reference {
            return refuse("other weights of the model, adapter or reference");
        }
        Ok(())
    }

    /// A hash of the tokens and rewards of all groups.
    fn data_fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let held_out = self.held_out.iter().flat_map(|held_out| &held_out.groups);
        for (part, group) in self.groups.iter().map(|g| (0u8, g)).chain(held_out.map(|g| (1u8, g))) {
            hasher.update(&[part]);
            let mut add = |ids: &[u32]| {
                hasher.update(&(ids.len() as u64).to_le_bytes());
                ids.iter().for_each(|id| {
                    hasher.update(&id.to_le_bytes());
                });
            };
            add(&group.prompt_ids);
            group.responses.iter().for_each(|response| add(&response.ids));
            group.responses.iter().for_each(|response| {
                hasher.update(&response.reward.to_le_bytes());
            });
        }
        hasher.finalize().to_hex()[..16].to_owned()
    }

    /// Scores, with the policy as it starts, every group that the run will visit.
    pub(super) fn score_reference(
        &mut self,
        reference: &mut Reference,
        session: &mut dyn Session,
        (stop, observer): (&StopFlag, &mut dyn Observer),
    ) -> Result<(), TrainError> {
        let packs = self.packs_to_score();
        let groups: Vec<Vec<_>> = packs.iter().map(|pack| pack.iter().map(|&i| &self.groups[i]).collect()).collect();
        let logps = reference.logps((&mut *session, &self.memory), &groups, (stop, &mut *observer))?;
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
            held_out.reference = Some(reference.logps((session, &self.memory), &packs, (stop, observer))?);
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
    pub(super) fn visits(&self, step: usize) -> Vec<usize> {
        let (epoch, place) = (step / self.plan.steps_per_epoch, step % self.plan.steps_per_epoch);
        let order = epoch_order(self.groups.len(), self.recipe.shuffle, self.recipe.seed, epoch);
        let size = self.recipe.groups_per_step();
        order.into_iter().skip(place * size).take(size).collect()
    }

    /// The learning rate of a step, counted from 0.
    pub(super) fn learning_rate(&self, step: usize) -> f64 {
        self.schedule.lr(step)
    }

    pub(super) fn all_steps(
        &self,
        session: &mut dyn Session,
        checkpoint: Option<Checkpoint>,
        reference: Option<String>,
        (stop, observer): (&StopFlag, &mut dyn Observer),
    ) -> Result<TrainSummary, TrainError> {
        let out = &self.recipe.output_dir;
        let recipe_yaml = self.recipe.resolved_yaml()?;
        let (mut record, mut state) = match checkpoint {
            Some(checkpoint) => {
                session.load_checkpoint(&checkpoint.path)?;
                let (step, path) = (checkpoint.state.global_step, checkpoint.path.display());
                observer.note(&format!("resuming after step {step} from {path}"));
                let at = (step, checkpoint.state.num_rows);
                let (record, warning) = Record::resume(self.recipe, recipe_yaml, at)?;
                warning.iter().for_each(|warning| observer.note(warning));
                (record, checkpoint.state)
            }
            None => (Record::create(self.recipe, recipe_yaml)?, self.first_state(reference)),
        };
        write_atomically(&out.join("recipe.yaml"), record.recipe_yaml.as_bytes())?;
        // What an early stop left to do at the step where the run stands.
        if self.evaluate_if_due(session, &state, &mut record, (stop, &mut *observer))? && state.global_step > 0 {
            state.interim &= !self.saves_at(state.global_step);
            record.save(session, &state, self.recipe.save_total_limit)?;
        }
        self.begin_stage(&state, observer);
        while state.global_step < self.plan.total_steps {
            self.stop_if_asked(session, &mut state, &record, stop)?;
            let row = self.one_step(session, &mut state, &record, observer)?;
            let done = state.global_step == self.plan.total_steps;
            let recorded = done || self.recipe.logs_after(state.global_step, &self.plan);
            if let Some(alarm) = record.step(row, recorded)? {
                observer.note(&format!("warning: {alarm}"));
            }
            if self.evaluate_if_due(session, &state, &mut record, (stop, &mut *observer))? {
                self.begin_stage(&state, observer);
            }
            if self.saves_at(state.global_step) && stop.requested().is_none() {
                record.save(session, &state, self.recipe.save_total_limit)?;
            }
        }
        self.stop_if_asked(session, &mut state, &record, stop)?;
        observer.finish();
        Ok(TrainSummary {
            output_dir: out.clone(),
            num_steps: state.global_step,
            num_groups: self.groups.len(),
            base_hash: None,
            first: record.heard.first,
            last: record.heard.last,
            evaluations: record.heard.evaluations,
            num_skipped_steps: state.num_skipped_steps,
            chosen_alarm: record.heard.chosen_alarm,
            seconds: 0.0,
        })
    }

    fn first_state(&self, reference: Option<String>) -> TrainerState {
        TrainerState {
            global_step: 0,
            epoch: 0.0,
            max_steps: self.plan.total_steps,
            num_tokens: 0,
            num_skipped_steps: 0,
            fingerprint: recipe_fingerprint(self.recipe),
            data: self.data_fingerprint(),
            reference,
            num_rows: 0,
            interim: false,
        }
    }

    /// Whether the recipe asks for a checkpoint after so many finished steps.
    fn saves_at(&self, step: usize) -> bool {
        step == self.plan.total_steps || self.recipe.saves_after(step, &self.plan)
    }

    fn begin_stage(&self, state: &TrainerState, observer: &mut dyn Observer) {
        let left = self.plan.total_steps - state.global_step;
        if left > 0 {
            observer.stage(&format!("training with {}", self.recipe.objective.name), Some(left as u64));
        }
    }

    /// Keeps where the run stands and ends it, where that was asked for.
    fn stop_if_asked(
        &self,
        session: &mut dyn Session,
        state: &mut TrainerState,
        record: &Record,
        stop: &StopFlag,
    ) -> Result<(), TrainError> {
        let Some(signal) = stop.requested() else { return Ok(()) };
        let kept = self.keep(session, state, record)?;
        let out = self.recipe.output_dir.display();
        let saved = format!("after step {}; {kept}; go on with --resume --output {out}", state.global_step);
        Err(TrainError::Interrupted { signal, saved })
    }

    /// Writes a checkpoint of where the run stands, outside of the recipe's order; says what there is now.
    fn keep(&self, session: &mut dyn Session, state: &mut TrainerState, record: &Record) -> Result<String, TrainError> {
        if state.global_step == 0 {
            return Ok("nothing was trained yet".to_owned());
        }
        state.interim =
            !(self.saves_at(state.global_step) && (!self.is_due(state) || record.has_evaluation(state.global_step)));
        let path = record.save(session, state, self.recipe.save_total_limit)?;
        Ok(format!("its state is in {}", path.display()))
    }

    fn one_step(
        &self,
        session: &mut dyn Session,
        state: &mut TrainerState,
        record: &Record,
        observer: &mut dyn Observer,
    ) -> Result<MetricsRow, TrainError> {
        let begun = Instant::now();
        let step = state.global_step;
        let learning_rate = self.schedule.lr(step);
        let visits = self.visits(step);
        let outcome = self.take_step(session, &StepInput { step, learning_rate, visits: &visits })?;
        if let Some(culprit) = &outcome.culprit {
            // Weights that are broken stay so: no later step can be better.
            if let Some(parameter) = session.nonfinite_parameter() {
                return Err(TrainError::WeightsNotFinite { step, parameter });
            }
            let culprit = culprit.describe(&self.files, &self.groups);
            if self.recipe.on_nonfinite == OnNonfinite::Stop {
                observer.finish();
                let kept = self.keep(session, state, record)?;
                return Err(TrainError::NotFinite { step: step + 1, culprit, kept });
            }
            state.num_skipped_steps += 1;
            observer.note(&format!("step {}: left out, {culprit}", step + 1));
        }
        state.interim = false;
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
            alpha: self.recipe.objective.alpha(),
            num_tokens: state.num_tokens,
            step_seconds: begun.elapsed().as_secs_f64(),
        }
        .row();
        observer.step(&row);
        observer.advance(1);
        Ok(row)
    }

    /// Whether held-out data is to be evaluated where the run stands.
    fn is_due(&self, state: &TrainerState) -> bool {
        let step = state.global_step;
        let end = step == 0 || step == self.plan.total_steps;
        self.held_out.is_some() && (end || self.recipe.evaluates_after(step, &self.plan))
    }

    /// Evaluates where that is due and was not done yet; whether it did. A stop that was asked for leaves it to the run
    /// that goes on.
    fn evaluate_if_due(
        &self,
        session: &mut dyn Session,
        state: &TrainerState,
        record: &mut Record,
        (stop, observer): (&StopFlag, &mut dyn Observer),
    ) -> Result<bool, TrainError> {
        let Some(held_out) = self.held_out.as_ref().filter(|_| self.is_due(state)) else { return Ok(false) };
        if stop.requested().is_some() || record.has_evaluation(state.global_step) {
            return Ok(false);
        }
        observer.finish();
        let at = (state.global_step, state.epoch);
        let evaluation =
            held_out.evaluate((session, &self.memory), self.objective, self.recipe, at, (stop, observer))?;
        let done = evaluation.is_some();
        evaluation.map_or(Ok(()), |row| record.evaluation(row))?;
        Ok(done)
    }
}
