//! Counts the steps of a run, and says after which of them it logs, evaluates and saves.

use std::time::Duration;

use crate::due_steps::DueSteps;
use crate::recipe::Recipe;
use crate::schedule::Schedule;

/// The number of optimizer steps of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepCounts {
    /// Optimizer steps of one pass over the data; the last step may hold fewer prompts.
    pub steps_per_epoch: usize,
    /// Optimizer steps of the run.
    pub total_steps: usize,
    /// Steps over which the learning rate rises.
    pub warmup_steps: usize,
}

impl Recipe {
    /// Prompts of one optimizer step.
    pub fn groups_per_step(&self) -> usize {
        self.per_device_train_batch_size.saturating_mul(self.gradient_accumulation_steps)
    }

    /// Prompts that an epoch visits of `num_groups`: all, or those that fill micro-batches.
    pub fn groups_per_epoch(&self, num_groups: usize) -> usize {
        match self.dataloader_drop_last {
            true => num_groups - num_groups % self.per_device_train_batch_size.max(1),
            false => num_groups,
        }
    }

    /// Counts the steps of a run over `num_groups` prompts, as transformers' trainer does.
    pub fn step_counts(&self, num_groups: usize) -> StepCounts {
        let steps_per_epoch = self.groups_per_epoch(num_groups).div_ceil(self.groups_per_step().max(1)).max(1);
        let total_steps = match usize::try_from(self.max_steps) {
            Ok(steps) if steps > 0 => steps,
            _ => (self.num_train_epochs * steps_per_epoch as f64).ceil() as usize,
        };
        let warmup_steps = match self.warmup_steps {
            steps if steps.is_zero() => (self.warmup_ratio * total_steps as f64).ceil() as usize,
            steps => steps.resolve(total_steps),
        };
        StepCounts { steps_per_epoch, total_steps, warmup_steps }
    }

    /// The learning rate of every step.
    pub fn schedule(&self, counts: &StepCounts) -> Schedule {
        Schedule::new(self.lr_scheduler_type, self.learning_rate, counts.warmup_steps, counts.total_steps)
            .with_arguments(self.lr_scheduler_type, &self.lr_scheduler_kwargs)
    }

    /// The steps to evaluate after, without the evaluations at the start and the end.
    pub fn evaluations(&self, counts: &StepCounts) -> DueSteps {
        self.eval_strategy.due_steps(self.eval_steps.resolve(counts.total_steps), counts.steps_per_epoch)
    }

    /// The steps to write a checkpoint after, without the one at the end.
    pub fn checkpoints(&self, counts: &StepCounts) -> DueSteps {
        self.save_strategy.due_steps(self.save_steps.resolve(counts.total_steps), counts.steps_per_epoch)
    }

    /// Time between checkpoints that are written whatever the step; `None` if there are none.
    pub fn save_interval(&self) -> Option<Duration> {
        Duration::try_from_secs_f64(60.0 * self.save_minutes).ok().filter(|interval| !interval.is_zero())
    }

    /// The steps whose figures are recorded; the last step's always are.
    pub fn logged_steps(&self, counts: &StepCounts) -> DueSteps {
        let steps = self.logging_steps.resolve(counts.total_steps);
        self.logging_strategy.due_steps(steps, counts.steps_per_epoch).with_first(self.logging_first_step)
    }

    /// The longest response for which the limits leave room beside the longest prompt: half of `max_length` if only that is
    /// given, else 512 tokens.
    pub fn response_room(&self) -> usize {
        const DEFAULT: usize = 512;
        let room = match (self.max_length, self.max_prompt_length) {
            (Some(all), Some(prompt)) => all.saturating_sub(prompt),
            (Some(all), None) => all.div_ceil(2),
            (None, _) => DEFAULT,
        };
        self.max_completion_length.map_or(room, |most| room.min(most))
    }
}
