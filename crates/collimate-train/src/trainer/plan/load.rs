//! The packs of a run's steps, and the memory they need.

use super::{FLOAT, PlannedInputs, PlannedSteps};
use crate::error::TrainError;
use crate::packs::{InputsIn, Passes};
use crate::trainer::held::{PROGRAM, held_bytes};
use crate::trainer::run::Run;

/// Groups that are divided into packs after the first epoch. Later epochs divide the same groups in other orders, so what is
/// left out changes the sums by next to nothing.
const MOST_VISITS: usize = 1 << 16;

/// Totals over the packs of some steps.
#[derive(Default)]
pub(super) struct PackLoad {
    num_steps: usize,
    num_packs: u64,
    most_packs: usize,
    /// Micro-batches whose packs go through the model together, by where the inputs of blocks wait.
    inputs: Vec<PlannedInputs>,
    tokens: u64,
    /// Bytes of the pack that needs the most memory.
    pub(super) activations: u64,
    /// Tokens of that pack.
    pack_tokens: usize,
    /// Blocks of that pack whose activations are kept.
    kept_blocks: usize,
}

/// Bytes that an open run will hold at its peak, including the program and its data.
///
/// # Errors
/// A response does not fit.
pub(in crate::trainer) fn expected_peak(run: &Run<'_>, num_steps: usize, num_trained: u64) -> Result<u64, TrainError> {
    let load = PackLoad::new(run, num_steps)?;
    let held_out = run.held_out.as_ref().map(|data| &data.store);
    let held = held_bytes(&run.training.store, held_out, &run.objective.needs(), run.num_orders());
    let (gradients, overhead) = (FLOAT * num_trained, PROGRAM + held);
    Ok(run.budget.resident() - gradients + overhead + load.step_bytes(gradients, run.budget.objective()))
}

impl PackLoad {
    /// Divides the first `num_steps` steps into packs as the run will: all of them, or those of the first epochs if there are
    /// very many, which stand for the others.
    pub(super) fn new(run: &Run<'_>, num_steps: usize) -> Result<Self, TrainError> {
        let mut load = Self { num_steps, ..Self::default() };
        let (epochs, rest) = (num_steps / run.counts.steps_per_epoch, num_steps % run.counts.steps_per_epoch);
        let divided = epochs.min(1 + MOST_VISITS / run.recipe.groups_per_epoch(run.training.len()).max(1));
        for epoch in 0..divided {
            load.add_epoch(run, epoch, run.counts.steps_per_epoch)?;
        }
        load.scale(epochs, divided.max(1));
        load.add_epoch(run, epochs, rest)?;
        Ok(load)
    }

    /// Adds the first `num_steps` steps of an epoch.
    fn add_epoch(&mut self, run: &Run<'_>, epoch: usize, num_steps: usize) -> Result<(), TrainError> {
        let first = epoch * run.counts.steps_per_epoch;
        (first..first + num_steps).try_for_each(|step| self.add_step(run, &run.visits(step)))
    }

    /// Multiplies the sums over `divided` epochs so that they are those of `epochs`.
    fn scale(&mut self, epochs: usize, divided: usize) {
        let scaled = |sum: u64| u64::try_from(u128::from(sum) * epochs as u128 / divided as u128).unwrap_or(u64::MAX);
        (self.tokens, self.num_packs) = (scaled(self.tokens), scaled(self.num_packs));
        self.inputs.iter_mut().for_each(|inputs| inputs.num_micro_batches = scaled(inputs.num_micro_batches));
    }

    fn add_step(&mut self, run: &Run<'_>, visits: &[usize]) -> Result<(), TrainError> {
        let mut num_packs = 0;
        for micro_batch in visits.chunks(run.micro_batch()) {
            let groups = run.training.heads(micro_batch)?;
            let Passes { packs, together } = run.passes(&groups)?;
            num_packs += packs.len();
            let blockwise = together.filter(|_| packs.len() > 1);
            if let Some(place) = &blockwise {
                self.add_inputs(place, run.budget.input_bytes(&groups, &packs));
            }
            for pack in &packs {
                let tokens = run.budget.pack_tokens(&groups, pack);
                self.tokens = self.tokens.saturating_add(tokens as u64);
                let (kept, bytes) = match &blockwise {
                    Some(inputs) => (0, run.budget.bytes_together(&groups, &packs, inputs)),
                    None => {
                        let charge = run.budget.pack_charge(&groups, pack);
                        let kept = run.budget.kept_blocks(charge);
                        (kept, run.budget.pack_bytes(charge, kept))
                    }
                };
                if bytes > self.activations {
                    (self.activations, self.pack_tokens, self.kept_blocks) = (bytes, tokens, kept);
                }
            }
        }
        self.num_packs = self.num_packs.saturating_add(num_packs as u64);
        self.most_packs = self.most_packs.max(num_packs);
        Ok(())
    }

    /// Counts a micro-batch with so many bytes of inputs of blocks.
    fn add_inputs(&mut self, place: &InputsIn, bytes: u64) {
        match self.inputs.iter_mut().find(|inputs| inputs.place == *place) {
            Some(inputs) => {
                inputs.num_micro_batches += 1;
                inputs.bytes = inputs.bytes.max(bytes);
            }
            None => self.inputs.push(PlannedInputs { place: place.clone(), bytes, num_micro_batches: 1 }),
        }
    }

    /// Bytes of a step beyond what is always held. The objective is asked while the activations of a pack are held. During the backward pass gradients replace activations; only from the
    /// second pack on do gradients exist before the pass begins.
    pub(super) fn step_bytes(&self, gradients: u64, objective: u64) -> u64 {
        let forward = self.activations.saturating_add(objective);
        match self.most_packs {
            0 | 1 => gradients.max(forward),
            _ => gradients.saturating_add(forward),
        }
    }

    /// The plan's figures of the steps; `total` is the run's number of steps, if known.
    pub(super) fn steps(&self, groups_per_step: usize, total: Option<usize>) -> PlannedSteps {
        PlannedSteps {
            total,
            groups_per_step,
            packs_per_step: self.num_packs as f64 / self.num_steps.max(1) as f64,
            most_packs: self.most_packs,
            num_blockwise: self.inputs.iter().map(|inputs| inputs.num_micro_batches).sum(),
            inputs: self.inputs.clone(),
            pack_tokens: self.pack_tokens,
            kept_blocks: self.kept_blocks,
            tokens: self.tokens,
        }
    }
}
