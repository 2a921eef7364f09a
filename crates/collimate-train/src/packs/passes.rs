//! How the packs of a micro-batch go through the model: one after the other, or together, block by block.

use std::path::PathBuf;

use collimate_session::InputFolders;
use collimate_text::GroupLengths;

use super::{InputsIn, Pack, PassBudget};
use crate::error::TrainError;

/// Work of a token's backward pass, with that of its forward pass as the unit.
const BACKWARD: f64 = 2.0;

/// How fast inputs of blocks go to where they wait and come back, and how fast the forward pass is that they save.
struct Rates {
    /// Bytes a second, there and back.
    bytes: f64,
    /// Multiplications and additions a second.
    operations: f64,
}

/// A file beside a processor. A disk wrote 0.8 GB/s and read 0.4 to 1.6 GB/s (docs/log.md, 2026-11-30); two cores compute 65 to
/// 130 GFLOP/s. A llama of 7B has 0.52 MB a token, so 1 ms, to save 13 GFLOP, so 130 ms.
const BESIDE_CPU: Rates = Rates { bytes: 0.5e9, operations: 100e9 };

/// Memory of the host beside a GPU, counted: for the same llama 10 µs to save 33 µs. A file would take 1 ms, so it is never used.
const BESIDE_GPU: Rates = Rates { bytes: 50e9, operations: 400e12 };

/// The packs of a micro-batch, and how they go through the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Passes {
    /// The packs, in order.
    pub(crate) packs: Vec<Pack>,
    /// Where the inputs of blocks wait if all packs go through the model together. Otherwise a pack's forward pass is repeated
    /// before its backward pass, since the objective must see the whole micro-batch in between.
    pub(crate) together: Option<InputsIn>,
}

/// Values of packs, in order, as those of a micro-batch of so many groups: by group and response.
pub(crate) fn by_group<T>(packs: &[Pack], values: impl IntoIterator<Item = Vec<Vec<T>>>, groups: usize) -> Vec<Vec<T>> {
    let mut all: Vec<Vec<T>> = std::iter::repeat_with(Vec::new).take(groups).collect();
    // The parts of a divided group arrive in the order of its responses.
    for (pack, values) in packs.iter().zip(values) {
        for (part, values) in pack.parts().iter().zip(values) {
            all[part.group].extend(values);
        }
    }
    all
}

impl PassBudget {
    /// Divides a micro-batch into packs, and says whether they go through the model together and where the inputs of blocks
    /// wait then.
    ///
    /// # Errors
    /// As [`PassBudget::packs`].
    pub(crate) fn passes(&self, groups: &[impl GroupLengths], folders: &InputFolders) -> Result<Passes, TrainError> {
        let (packs, wait_on_device) = self.step_packs(groups)?;
        let together = match wait_on_device {
            true => Some(InputsIn::Device),
            false => self.elsewhere(groups, &packs, folders),
        };
        Ok(Passes { packs, together })
    }

    /// Divides a micro-batch into packs, and says whether inputs of blocks wait on the device.
    ///
    /// What other places have room for at the moment does not count, so that a run that is resumed has the same packs, and
    /// with them the same sums.
    ///
    /// # Errors
    /// As [`PassBudget::packs`].
    pub(crate) fn step_packs(&self, groups: &[impl GroupLengths]) -> Result<(Vec<Pack>, bool), TrainError> {
        let packs = self.packs(groups)?;
        if packs.len() == 1 {
            return Ok((packs, true));
        }
        Ok(match self.packs_together(groups, &packs) {
            Some(packs) => (packs, true),
            None => (packs, false),
        })
    }

    /// Where packs that go through the model one by one could leave the inputs of their blocks so that they need not go
    /// forward twice; `None` if there is no room, or that would take longer.
    fn elsewhere(&self, groups: &[impl GroupLengths], packs: &[Pack], folders: &InputFolders) -> Option<InputsIn> {
        let place = if self.host.is_some() { InputsIn::Host } else { InputsIn::File(PathBuf::new()) };
        if self.costs.shares_embedding || self.bytes_together(groups, packs, &place) > self.activations? {
            return None;
        }
        let bytes = self.input_bytes(groups, packs);
        let saved = |pack: &Pack| {
            let tokens = self.pack_tokens(groups, pack);
            (1.0 - self.kept_share(self.pack_charge(groups, pack))) * tokens as f64 * self.operations as f64
        };
        let saved: f64 = packs.iter().map(saved).sum();
        let rates = if self.host.is_some() { BESIDE_GPU } else { BESIDE_CPU };
        if bytes as f64 / rates.bytes >= saved / rates.operations {
            return None;
        }
        match self.host {
            Some(room) => (bytes <= room).then_some(place),
            None => folders.with_room(bytes).map(|folder| InputsIn::File(folder.to_owned())),
        }
    }

    /// Smaller packs that wait for their backward pass together, if there is room and it takes less work.
    fn packs_together(&self, groups: &[impl GroupLengths], apart: &[Pack]) -> Option<Vec<Pack>> {
        if self.costs.shares_embedding {
            return None;
        }
        let tokens = |pack: &Pack| self.pack_charge(groups, pack);
        let waiting = (apart.iter().map(tokens).sum::<usize>() as u64).checked_mul(self.costs.per_waiting)?;
        let left = self.activations?.checked_sub(waiting)?;
        let limit = usize::try_from(left / self.per_working().max(1)).ok()?;
        let packs = self.packs_of(limit, groups).ok()?;
        // A prompt is computed again for each part of a divided group.
        let num_tokens: usize = packs.iter().map(tokens).sum();
        let work = (1.0 + 1.0 + BACKWARD) * num_tokens as f64;
        let again = |pack: &Pack| (1.0 + 1.0 + (1.0 - self.kept_share(tokens(pack))) + BACKWARD) * tokens(pack) as f64;
        let fits = self.bytes_together(groups, &packs, &InputsIn::Device) <= self.activations?;
        (fits && work < apart.iter().map(again).sum()).then_some(packs)
    }

    /// Bytes that packs need together on the device, beyond what is always held. A file's pages that the system caches do not
    /// count, since it drops them when memory is wanted.
    pub(crate) fn bytes_together(&self, groups: &[impl GroupLengths], packs: &[Pack], inputs: &InputsIn) -> u64 {
        let (per_waiting, per_moved) = match inputs {
            InputsIn::Device => (self.costs.per_waiting, 0),
            InputsIn::Host | InputsIn::File(_) => (self.costs.per_waiting_elsewhere(), self.costs.per_moved_input()),
        };
        let tokens = || packs.iter().map(|pack| self.pack_charge(groups, pack) as u64);
        let waiting = tokens().sum::<u64>().saturating_mul(per_waiting);
        waiting.saturating_add(tokens().max().unwrap_or(0).saturating_mul(self.per_working() + per_moved))
    }

    /// Bytes of the inputs of blocks of packs that wait together, wherever they are.
    pub(crate) fn input_bytes(&self, groups: &[impl GroupLengths], packs: &[Pack]) -> u64 {
        let tokens = packs.iter().map(|pack| self.pack_tokens(groups, pack) as u64);
        tokens.sum::<u64>().saturating_mul(self.costs.per_input)
    }

    /// The part of the blocks whose activations a pack of so many tokens can keep.
    fn kept_share(&self, num_tokens: usize) -> f64 {
        self.kept_blocks(num_tokens) as f64 / self.costs.num_blocks.max(1) as f64
    }

    /// Number of blocks whose activations a pack of `num_tokens` tokens can keep; the others are recomputed.
    pub(crate) fn kept_blocks(&self, num_tokens: usize) -> usize {
        if self.recompute {
            return 0;
        }
        let Some(activations) = self.activations else { return self.costs.num_blocks };
        let tokens = num_tokens as u64;
        let left = activations.saturating_sub(tokens * self.costs.per_token);
        let kept = left / (tokens * self.costs.per_kept_block).max(1);
        usize::try_from(kept).unwrap_or(usize::MAX).min(self.costs.num_blocks)
    }

    /// Bytes that a pack needs beyond what is always held.
    ///
    /// Blocks are recomputed only once the kept ones have been used and freed, so they do not add to those.
    pub(crate) fn pack_bytes(&self, num_tokens: usize, kept_blocks: usize) -> u64 {
        let at_once = kept_blocks.saturating_sub(1) as u64;
        num_tokens as u64 * (self.costs.per_token + at_once * self.costs.per_kept_block)
    }

    /// Bytes a token of the pack that is being computed, beside the inputs of blocks.
    fn per_working(&self) -> u64 {
        self.costs.per_token.saturating_sub(self.costs.per_input)
    }
}
