//! How the packs of a micro-batch go through the model: one after the other, or together, block by block.

use collimate_text::GroupLengths;

use super::{Pack, PassBudget};
use crate::error::TrainError;

/// Work of a token's backward pass, with that of its forward pass as the unit.
const BACKWARD: f64 = 2.0;

/// The packs of a micro-batch, and how they go through the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Passes {
    /// The packs, in order.
    pub(crate) packs: Vec<Pack>,
    /// Whether all of them are kept between forward and backward pass. Otherwise a pack's forward pass is repeated before
    /// its backward pass, since the objective must see the whole micro-batch in between.
    pub(crate) together: bool,
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
    /// Divides a micro-batch into packs, and says whether they are kept together.
    ///
    /// # Errors
    /// As [`PassBudget::packs`].
    pub(crate) fn passes(&self, groups: &[impl GroupLengths]) -> Result<Passes, TrainError> {
        let packs = self.packs(groups)?;
        if packs.len() == 1 {
            return Ok(Passes { packs, together: true });
        }
        Ok(match self.packs_together(groups, &packs) {
            Some(packs) => Passes { packs, together: true },
            None => Passes { packs, together: false },
        })
    }

    /// Smaller packs that wait for their backward pass together, if there is room and it takes less work.
    fn packs_together(&self, groups: &[impl GroupLengths], apart: &[Pack]) -> Option<Vec<Pack>> {
        if self.costs.shares_embedding {
            return None;
        }
        let tokens = |pack: &Pack| self.pack_tokens(groups, pack);
        let waiting = (apart.iter().map(tokens).sum::<usize>() as u64).checked_mul(self.costs.per_waiting)?;
        let left = self.activations?.checked_sub(waiting)?;
        let limit = usize::try_from(left / self.per_working().max(1)).ok()?;
        let packs = self.packs_of(limit, groups).ok()?;
        // A prompt is computed again for each part of a divided group.
        let num_tokens: usize = packs.iter().map(tokens).sum();
        let work = (1.0 + 1.0 + BACKWARD) * num_tokens as f64;
        let again = |pack: &Pack| {
            let kept = self.kept_blocks(tokens(pack)) as f64 / self.costs.num_blocks.max(1) as f64;
            (1.0 + 1.0 + (1.0 - kept) + BACKWARD) * tokens(pack) as f64
        };
        let fits = self.bytes_together(groups, &packs) <= self.activations?;
        (fits && work < apart.iter().map(again).sum()).then_some(packs)
    }

    /// Bytes that packs need together, beyond what is always held.
    pub(crate) fn bytes_together(&self, groups: &[impl GroupLengths], packs: &[Pack]) -> u64 {
        let tokens = || packs.iter().map(|pack| self.pack_tokens(groups, pack) as u64);
        let waiting = tokens().sum::<u64>().saturating_mul(self.costs.per_waiting);
        waiting.saturating_add(tokens().max().unwrap_or(0).saturating_mul(self.per_working()))
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
