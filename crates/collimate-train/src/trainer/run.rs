//! The parts of a run, and which groups each of its steps visits.

use collimate_model::DropoutKey;
use collimate_objective::Objective;
use collimate_progress::Agenda;
use collimate_recipe::{Recipe, Schedule, StepCounts};
use collimate_text::TokenizedGroup;

use crate::control::RunContext;
use crate::dataset::DataSet;
use crate::error::TrainError;
use crate::packs::PassBudget;
use crate::prepare::epoch_order;
use crate::reference::Reference;
use crate::scoring::BatchScorer;
use crate::session::Session;

/// Everything a run reads; constant once the reference is scored.
pub(super) struct Run<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) objective: &'a dyn Objective,
    pub(super) budget: PassBudget,
    pub(super) training: DataSet,
    pub(super) held_out: Option<DataSet>,
    pub(super) counts: StepCounts,
    schedule: Schedule,
}

/// Groups with a common forward and backward pass where memory allows.
pub(super) struct MicroBatch<'a> {
    /// Index of the first of these groups within the step.
    pub(super) offset: usize,
    /// Indices of the groups in the training data.
    pub(super) indices: &'a [usize],
    pub(super) groups: Vec<&'a TokenizedGroup>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        recipe: &'a Recipe,
        objective: &'a dyn Objective,
        budget: PassBudget,
        training: DataSet,
        held_out: Option<DataSet>,
    ) -> Self {
        let counts = recipe.step_counts(training.groups.len());
        let schedule = recipe.schedule(&counts);
        Self { recipe, objective, budget, training, held_out, counts, schedule }
    }

    /// The data to draw sample prompts from: held-out, or else the training data.
    pub(super) fn shown(&self) -> &DataSet {
        self.held_out.as_ref().unwrap_or(&self.training)
    }

    /// Indices of the groups that a step visits; steps count from 0. The last step of an epoch may have fewer.
    pub(super) fn visits(&self, step: usize) -> Vec<usize> {
        let (epoch, step_of_epoch) = (step / self.counts.steps_per_epoch, step % self.counts.steps_per_epoch);
        let size = self.recipe.groups_per_step();
        self.order(epoch).into_iter().skip(step_of_epoch * size).take(size).collect()
    }

    /// Indices of all groups in the order in which an epoch visits them.
    pub(super) fn order(&self, epoch: usize) -> Vec<usize> {
        let num_groups = self.training.groups.len();
        let mut order = epoch_order(num_groups, self.recipe.shuffle, self.recipe.seed, epoch);
        order.truncate(self.recipe.groups_per_epoch(num_groups));
        order
    }

    /// Divides a step's groups into micro-batches.
    pub(super) fn micro_batches<'b>(&'b self, visits: &'b [usize]) -> impl Iterator<Item = MicroBatch<'b>> {
        let size = self.recipe.per_device_train_batch_size.max(1);
        visits.chunks(size).enumerate().map(move |(i, indices)| MicroBatch {
            offset: i * size,
            indices,
            groups: self.training.select(indices),
        })
    }

    /// Learning rate of a step, which counts from 0.
    pub(super) fn learning_rate(&self, step: usize) -> f64 {
        self.schedule.lr(step)
    }

    /// Key of a step's dropout draws; `None` without dropout.
    pub(super) fn dropout(&self, step: usize) -> Option<DropoutKey> {
        let with_dropout = self.recipe.use_peft && self.recipe.lora_dropout > 0.0;
        with_dropout.then_some(DropoutKey { seed: self.recipe.seed, step: step as u64 })
    }

    /// Whether held-out data is evaluated after `finished_steps` steps.
    pub(super) fn evaluates_after(&self, finished_steps: usize) -> bool {
        let at_an_end = finished_steps == 0 || finished_steps == self.counts.total_steps;
        self.held_out.is_some() && (at_an_end || self.recipe.evaluates_after(finished_steps, &self.counts))
    }

    /// Whether a checkpoint is due after `finished_steps` steps.
    pub(super) fn saves_after(&self, finished_steps: usize) -> bool {
        finished_steps == self.counts.total_steps || self.recipe.saves_after(finished_steps, &self.counts)
    }

    /// What the run does after which steps.
    pub(super) fn agenda(&self) -> Agenda {
        let total_steps = self.counts.total_steps;
        let steps_where = |is_due: &dyn Fn(usize) -> bool| (1..=total_steps).filter(|&step| is_due(step)).collect();
        Agenda {
            total_steps,
            evaluations: steps_where(&|step| self.evaluates_after(step)),
            checkpoints: steps_where(&|step| self.saves_after(step)),
            interval: self.recipe.save_interval(),
        }
    }

    /// Whether the step that was just finished is recorded in the metrics.
    pub(super) fn records_after(&self, finished_steps: usize) -> bool {
        finished_steps == self.counts.total_steps || self.recipe.logs_after(finished_steps, &self.counts)
    }

    /// Fills in the reference's log-probs of every group that the run will visit, and of all held-out groups.
    pub(super) fn score_reference(
        &mut self,
        reference: &mut Reference,
        session: &mut dyn Session,
        context: &mut RunContext<'_>,
    ) -> Result<(), TrainError> {
        let scorer = &mut BatchScorer { session, budget: &self.budget };
        let micro_batches = self.first_visits();
        let groups: Vec<_> = micro_batches.iter().map(|indices| self.training.select(indices)).collect();
        let logps = reference.logps(scorer, &groups, context)?;
        let mut by_group = vec![Vec::new(); self.training.groups.len()];
        for (&index, logps) in micro_batches.iter().flatten().zip(logps) {
            // A group may recur in a later micro-batch; its first number counts.
            if by_group[index].is_empty() {
                by_group[index] = logps;
            }
        }
        self.training.reference = Some(by_group);
        if let Some(held_out) = &mut self.held_out {
            let groups: Vec<_> = held_out.groups.iter().collect();
            let size = self.recipe.per_device_eval_batch_size.max(1);
            let micro_batches: Vec<_> = groups.chunks(size).map(<[_]>::to_vec).collect();
            held_out.reference = Some(reference.logps(scorer, &micro_batches, context)?);
        }
        Ok(())
    }

    /// The run's micro-batches, in order, that visit some group for the first time.
    ///
    /// Scored in the micro-batches of training, so that the reference's numbers equal the policy's bit for bit.
    fn first_visits(&self) -> Vec<Vec<usize>> {
        let mut seen = vec![false; self.training.groups.len()];
        let mut found = Vec::new();
        for step in 0..self.counts.total_steps {
            if seen.iter().all(|&seen| seen) {
                break;
            }
            for micro_batch in self.micro_batches(&self.visits(step)) {
                if micro_batch.indices.iter().any(|&index| !seen[index]) {
                    micro_batch.indices.iter().for_each(|&index| seen[index] = true);
                    found.push(micro_batch.indices.to_vec());
                }
            }
        }
        found
    }
}
