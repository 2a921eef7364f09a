//! The parts of a run, and which groups each of its steps visits.

use std::sync::{Arc, Mutex, PoisonError};

use collimate_collective::deal;
use collimate_model::DropoutKey;
use collimate_objective::{Objective, StepRows};
use collimate_progress::Agenda;
use collimate_recipe::{DueSteps, Recipe, Schedule, StepCounts};
use collimate_session::InputFolders;
use collimate_store::{GroupHead, epoch_order};
use collimate_text::{GroupLengths, TokenizedGroup};
use collimate_weights::read_config;

use crate::dataset::{DataSet, MicroBatch};
use crate::error::TrainError;
use crate::packs::{PassBudget, Passes};

/// Orders in which a run visits its groups: one an epoch, or one for all.
pub(super) fn num_orders(recipe: &Recipe, counts: &StepCounts) -> usize {
    if recipe.shuffle { counts.total_steps.div_ceil(counts.steps_per_epoch.max(1)).max(1) } else { 1 }
}

/// Everything a run reads; constant but for the reference's log-probs, which are filled in as they become known.
pub(super) struct Run<'a> {
    /// As this process computes: its share of the machine, and the micro-batches of a step on all ranks.
    pub(super) recipe: &'a Recipe,
    /// As it was given, for the files of the run.
    pub(super) given: &'a Recipe,
    pub(super) objective: &'a dyn Objective,
    pub(super) budget: PassBudget,
    pub(super) training: DataSet,
    pub(super) held_out: Option<DataSet>,
    pub(super) counts: StepCounts,
    schedule: Schedule,
    folders: InputFolders,
    /// An epoch and its order: the last that was asked for.
    order: Mutex<(usize, Arc<Vec<u32>>)>,
}

/// Groups of a step whose log-probs are shared before any of them goes backward: a micro-batch for each rank.
pub(super) struct Round<'a> {
    /// Index of the first of these groups within the step.
    pub(super) offset: usize,
    /// Indices of the groups in the training data.
    pub(super) indices: &'a [usize],
    /// The rank of each group.
    pub(super) owners: Vec<usize>,
    /// This rank's groups.
    pub(super) groups: Vec<TokenizedGroup>,
}

/// How a step's groups are dealt out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dealing {
    pub(super) rank: usize,
    pub(super) ranks: usize,
    /// Whether micro-batches stay whole: a balance loss needs the load of all its groups.
    pub(super) whole: bool,
}

impl<'a> Run<'a> {
    /// # Errors
    /// The objective compares prompts, and the recipe has no others to compare with.
    pub(super) fn new(
        recipe: &'a Recipe,
        objective: &'a dyn Objective,
        budget: PassBudget,
        training: DataSet,
        held_out: Option<DataSet>,
    ) -> Result<Self, TrainError> {
        let counts = recipe.step_counts(training.len());
        let schedule = recipe.schedule(&counts);
        let order = Mutex::new((usize::MAX, Arc::default()));
        let folders = InputFolders::of_run(&recipe.output_dir);
        let given = recipe;
        let run = Self { recipe, given, objective, budget, training, held_out, counts, schedule, folders, order };
        if run.objective.needs().mismatched_pairs { run.with_pairs() } else { Ok(run) }
    }

    /// The run with the pairs of all its micro-batches.
    fn with_pairs(mut self) -> Result<Self, TrainError> {
        let refused = |key, message: &str| Err(TrainError::RecipeValue { key, message: message.to_owned() });
        let needs = self.objective.needs();
        if needs.couples_batch && !needs.mismatched_apart {
            return refused(
                "objective",
                "some term compares prompts of a step, and another one those of a micro-batch",
            );
        }
        if self.recipe.per_device_train_batch_size < 2 {
            let message =
                "must be at least 2: this objective compares each prompt with the next one of its micro-batch";
            return refused("per_device_train_batch_size", message);
        }
        let null_prompt = read_config(self.recipe.model()?)?.null_condition();
        let masks = |step| self.micro_batches(step).iter().any(|batch| batch.masked.contains(&true));
        if null_prompt.is_none() && (0..self.counts.total_steps).any(masks) {
            return refused("objective", "uncond_ratio must be 0: the model has no null condition");
        }
        self.training.add_pairs(null_prompt, self.num_orders(), needs.mismatched_apart)?;
        self.held_out.iter_mut().try_for_each(|data| data.add_pairs(null_prompt, 1, needs.mismatched_apart))?;
        Ok(self)
    }

    /// Orders in which the run visits its groups.
    pub(super) fn num_orders(&self) -> usize {
        num_orders(self.recipe, &self.counts)
    }

    /// The micro-batches of a step, which counts from 0.
    fn micro_batches(&self, step: usize) -> Vec<MicroBatch> {
        let (rows, size) = (self.rows(step), self.recipe.per_device_train_batch_size.max(1));
        let draw = StepRows { seed: self.recipe.seed, step, count: rows.len() };
        let masked = self.objective.unconditional_rows(draw);
        let epoch = if self.recipe.shuffle { step / self.counts.steps_per_epoch } else { 0 };
        let batch =
            |(rows, masked): (&[usize], &[bool])| MicroBatch { epoch, groups: rows.into(), masked: masked.into() };
        rows.chunks(size).zip(masked.chunks(size)).map(batch).collect()
    }

    /// The micro-batches of an evaluation of so many groups.
    pub(super) fn eval_batches(&self, num_groups: usize) -> impl Iterator<Item = MicroBatch> + use<> {
        let size = self.recipe.per_device_eval_batch_size.max(1);
        (0..num_groups).step_by(size).map(move |start| {
            let groups: Vec<usize> = (start..num_groups.min(start + size)).collect();
            MicroBatch { epoch: 0, masked: vec![false; groups.len()], groups }
        })
    }

    /// How a micro-batch goes through the model.
    ///
    /// # Errors
    /// A response with its prompt does not fit into memory.
    pub(super) fn passes(&self, groups: &[impl GroupLengths]) -> Result<Passes, TrainError> {
        self.budget.passes(groups, &self.folders)
    }

    /// The data to draw sample prompts from: held-out, or else the training data.
    pub(super) fn shown(&self) -> &DataSet {
        self.held_out.as_ref().unwrap_or(&self.training)
    }

    /// What a step scores, micro-batch by micro-batch; steps count from 0.
    pub(super) fn visits(&self, step: usize) -> Vec<usize> {
        if self.training.times_scored() == 1 {
            return self.rows(step);
        }
        self.micro_batches(step).iter().flat_map(|batch| self.training.scored(batch)).collect()
    }

    /// Checks that every response that the run scores fits into memory with its prompts.
    ///
    /// # Errors
    /// One does not fit; the error names file and line.
    pub(super) fn check_fits(&self) -> Result<(), TrainError> {
        let steps = (0..self.counts.total_steps).flat_map(|step| self.visits(step));
        let all: Box<dyn Iterator<Item = usize>> = match self.training.times_scored() {
            1 => Box::new(0..self.training.len()),
            _ => Box::new(steps),
        };
        self.budget.check(&self.training, all)?;
        let Some(data) = &self.held_out else { return Ok(()) };
        self.budget.check(data, self.eval_batches(data.len()).flat_map(|batch| data.scored(&batch)))
    }

    /// Indices of the groups that a step visits. The last step of an epoch may have fewer.
    fn rows(&self, step: usize) -> Vec<usize> {
        let (epoch, step_of_epoch) = (step / self.counts.steps_per_epoch, step % self.counts.steps_per_epoch);
        let size = self.recipe.groups_per_step();
        let order = self.order(epoch);
        order.iter().skip(step_of_epoch * size).take(size).map(|index| *index as usize).collect()
    }

    /// Indices of all groups in the order in which an epoch visits them.
    pub(super) fn order(&self, epoch: usize) -> Arc<Vec<u32>> {
        let mut last = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != epoch {
            // Two orders at once would be twice the memory.
            *last = (usize::MAX, Arc::default());
            let num_groups = self.training.len();
            let mut order = epoch_order(num_groups, self.recipe.shuffle, self.recipe.seed, epoch);
            order.truncate(self.recipe.groups_per_epoch(num_groups));
            *last = (epoch, Arc::new(order));
        }
        Arc::clone(&last.1)
    }

    /// What the step after this one scores; nothing after the last.
    pub(super) fn visits_after(&self, step: usize) -> Vec<usize> {
        if step + 1 < self.counts.total_steps { self.visits(step + 1) } else { Vec::new() }
    }

    /// Divides a step's groups into rounds, whose groups are read when their turn comes. Meanwhile the images of the next
    /// round are loaded, and at the last one those of the first round of `after`.
    pub(super) fn rounds<'b>(
        &'b self,
        visits: &'b [usize],
        after: &'b [usize],
        dealing: Dealing,
    ) -> impl Iterator<Item = Result<Round<'b>, TrainError>> {
        let size = self.micro_batch().saturating_mul(dealing.ranks);
        let mine = move |indices: &[usize]| {
            let owners = self.owners(indices, dealing)?;
            let mine = indices.iter().zip(&owners).filter(|(_, owner)| **owner == dealing.rank);
            Ok::<_, TrainError>((mine.map(|(index, _)| *index).collect::<Vec<_>>(), owners))
        };
        visits.chunks(size).enumerate().map(move |(i, indices)| {
            let (own, owners) = mine(indices)?;
            let groups = self.training.select(&own)?;
            let next = visits.chunks(size).nth(i + 1).unwrap_or(&after[..size.min(after.len())]);
            self.training.prefetch(&mine(next)?.0);
            Ok(Round { offset: i * size, indices, groups, owners })
        })
    }

    /// What a micro-batch scores: its groups, or twice as many.
    pub(super) fn micro_batch(&self) -> usize {
        self.recipe.per_device_train_batch_size.max(1) * self.training.times_scored()
    }

    /// How many responses each group has.
    pub(super) fn counts_of(&self, indices: &[usize]) -> Result<Vec<usize>, TrainError> {
        Ok(self.training.heads(indices)?.iter().map(|head| head.responses.len()).collect())
    }

    /// The rank that each group of a round is dealt to, by tokens.
    fn owners(&self, indices: &[usize], dealing: Dealing) -> Result<Vec<usize>, TrainError> {
        if dealing.ranks == 1 {
            return Ok(vec![0; indices.len()]);
        }
        let unit = if dealing.whole { self.micro_batch() } else { 1 };
        let heads = self.training.heads(indices)?;
        let tokens = |heads: &[GroupHead]| heads.iter().map(|head| self.budget.group_tokens(head)).sum();
        let owners = deal(&heads.chunks(unit).map(tokens).collect::<Vec<usize>>(), dealing.ranks);
        Ok((0..indices.len()).map(|position| owners[position / unit]).collect())
    }

    /// Learning rate of a step, which counts from 0.
    pub(super) fn learning_rate(&self, step: usize) -> f64 {
        self.schedule.lr(step)
    }

    /// Whether training drops something of the model itself.
    pub(super) fn drops(&self) -> bool {
        self.recipe.model_dropout != "none"
    }

    /// Key of a step's dropout draws; `None` without dropout.
    pub(super) fn dropout(&self, step: usize) -> Option<DropoutKey> {
        let of_adapter = self.recipe.use_peft && self.recipe.lora_dropout > 0.0;
        (of_adapter || self.drops()).then_some(DropoutKey { seed: self.recipe.seed, step: step as u64 })
    }

    /// Whether held-out data is evaluated after `finished_steps` steps.
    pub(super) fn evaluates_after(&self, finished_steps: usize) -> bool {
        self.held_out.is_some() && (finished_steps == 0 || self.evaluations().contains(finished_steps))
    }

    /// The steps after which held-out data is evaluated if there is any.
    fn evaluations(&self) -> DueSteps {
        self.recipe.evaluations(&self.counts).with_last(self.counts.total_steps)
    }

    /// The steps after which a checkpoint is due.
    fn checkpoints(&self) -> DueSteps {
        self.recipe.checkpoints(&self.counts).with_last(self.counts.total_steps)
    }

    /// Whether a checkpoint is due after `finished_steps` steps.
    pub(super) fn saves_after(&self, finished_steps: usize) -> bool {
        self.checkpoints().contains(finished_steps)
    }

    /// What the run does after which steps.
    pub(super) fn agenda(&self) -> Agenda {
        Agenda {
            total_steps: self.counts.total_steps,
            evaluations: self.held_out.as_ref().map(|_| self.evaluations()).unwrap_or_default(),
            checkpoints: self.checkpoints(),
            interval: self.recipe.save_interval(),
            references: 0,
        }
    }

    /// Whether the step that was just finished is recorded in the metrics.
    pub(super) fn records_after(&self, finished_steps: usize) -> bool {
        self.recipe.logged_steps(&self.counts).with_last(self.counts.total_steps).contains(finished_steps)
    }

    /// A hash of the tokens and rewards of all groups.
    pub(super) fn data_fingerprint(&self) -> Result<String, TrainError> {
        let held_out = self.held_out.as_ref().map(|data| &data.store);
        let hash = self.training.store_folder.content_hash(&self.training.store, held_out)?;
        Ok(hash.to_hex()[..16].to_owned())
    }
}
