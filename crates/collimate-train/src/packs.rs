//! Divides micro-batches into packs that fit into memory.

mod image_memory;
mod inputs;
mod pack;
mod passes;
#[cfg(test)]
mod tests;

use std::ops::Range;

use collimate_data::counted;
use collimate_model::MemoryCosts;
use collimate_objective::Needs;
use collimate_progress::{format_bytes, format_count};
use collimate_recipe::Recipe;
use collimate_session::{Allowance, least_held};
use collimate_text::{GroupBatch, GroupLengths, TokenizedGroup};

pub use self::inputs::InputsIn;
pub(crate) use self::pack::{Pack, PackPart};
pub(crate) use self::passes::{Passes, by_group};
use crate::dataset::DataSet;
use crate::error::TrainError;

/// The part of [`OVERHEAD`](collimate_session::OVERHEAD) that is for what is held of each group of the data.
const DATA_SHARE: u64 = 16 << 20;

/// The part of the memory budget that passes may use, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PassBudget {
    /// Bytes for the activations of one pack; `None` for no limit.
    activations: Option<u64>,
    budget: Option<u64>,
    /// Bytes for the memory of the host, for a device with memory of its own.
    host: Option<u64>,
    costs: MemoryCosts,
    /// Multiplications and additions of a token's forward pass; 0 if they are not known.
    operations: u64,
    share_prompt: bool,
    /// Recompute every block in the backward pass, even if memory would suffice.
    recompute: bool,
    /// Bytes that the objective needs for a micro-batch, while the activations of a pack are held.
    objective: u64,
    /// Whether an adapter is trained, for what an error advises.
    trains_adapter: bool,
}

impl PassBudget {
    /// `budget` limits everything that a run holds in memory.
    ///
    /// # Errors
    /// The budget cannot even hold the parameters with their gradients and moments.
    pub(crate) fn new(budget: impl Into<Allowance>, costs: MemoryCosts, recipe: &Recipe) -> Result<Self, TrainError> {
        let budget = budget.into();
        let held = least_held(&costs);
        let activations = match budget.bytes {
            Some(bytes) if bytes <= held => {
                let origin = budget.origin.map(|origin| format!(" ({origin})")).unwrap_or_default();
                let message = format!(
                    "{}{origin} is too little: parameters, gradients and optimizer alone need {}; {}",
                    format_bytes(bytes),
                    format_bytes(held),
                    remedy(recipe.use_peft, "a larger memory_budget")
                );
                return Err(TrainError::RecipeValue { key: "memory_budget", message });
            }
            bytes => bytes.map(|bytes| bytes - held),
        };
        Ok(Self {
            activations,
            budget: budget.bytes,
            host: budget.host,
            costs,
            operations: 0,
            objective: 0,
            share_prompt: recipe.share_prompt,
            recompute: recipe.gradient_checkpointing,
            trains_adapter: recipe.use_peft,
        })
    }

    /// The budget less what the objective needs for micro-batches whose groups have up to `num_responses` responses.
    ///
    /// # Errors
    /// Nothing is left.
    pub(crate) fn with_objective(
        self,
        needs: &Needs,
        num_responses: usize,
        recipe: &Recipe,
    ) -> Result<Self, TrainError> {
        let num_groups =
            if needs.couples_batch { recipe.groups_per_step() } else { recipe.per_device_train_batch_size };
        let objective = needs.working_bytes(num_groups, num_responses);
        let activations = match self.activations {
            Some(bytes) if bytes <= objective => {
                let held = least_held(&self.costs).saturating_add(objective);
                let message = format!(
                    "{} is too little: parameters, gradients and optimizer, and {} for the objective \"{}\" on {} with up \
                     to {}, need {}; use smaller micro-batches, fewer responses, or a larger memory_budget",
                    format_bytes(self.budget.unwrap_or(u64::MAX)),
                    format_bytes(objective),
                    recipe.objective.name,
                    counted(num_groups, "prompt"),
                    counted(num_responses, "response"),
                    format_bytes(held),
                );
                return Err(TrainError::RecipeValue { key: "memory_budget", message });
            }
            bytes => bytes.map(|bytes| bytes - objective),
        };
        Ok(Self { activations, objective, ..self })
    }

    /// The budget for a model with so many multiplications and additions in a token's forward pass.
    pub(crate) fn for_operations(self, operations: u64) -> Self {
        Self { operations, ..self }
    }

    /// Bytes that the objective needs for a micro-batch.
    pub(crate) fn objective(&self) -> u64 {
        self.objective
    }

    /// The budget that is left beside `data` bytes that are held of the data. A few of them are in the overhead already.
    ///
    /// # Errors
    /// Nothing is left.
    pub(crate) fn beside(self, data: u64) -> Result<Self, TrainError> {
        let data = data.saturating_sub(DATA_SHARE);
        let host = self.host.map(|host| host.saturating_sub(data));
        let Some(activations) = self.activations.filter(|_| data > 0) else { return Ok(Self { host, ..self }) };
        let message = format!("is too little: what is held of the data needs {}", format_bytes(data));
        let left = activations.checked_sub(data).filter(|left| *left > 0);
        let left = left.ok_or(TrainError::RecipeValue { key: "memory_budget", message })?;
        Ok(Self { activations: Some(left), host, ..self })
    }

    /// One line for the log: what is held, and how large a pack may be.
    pub(crate) fn describe(&self) -> String {
        let in_files = match self.costs.in_files {
            0 => String::new(),
            bytes => format!(", {} of weights stay in their files", format_bytes(bytes)),
        };
        let held = format!("{} for parameters and optimizer{in_files}", format_bytes(self.costs.resident));
        match self.budget {
            Some(budget) => format!(
                "memory: {held}; packs of up to {} tokens fit into {}",
                format_count(self.max_tokens()),
                format_bytes(budget)
            ),
            None => format!("memory: {held}; packs are not bounded"),
        }
    }

    /// The least budget for a longest response with its prompt of so many tokens.
    pub(crate) fn least(&self, tokens: usize) -> u64 {
        let pass = (tokens as u64).saturating_mul(self.costs.per_token);
        least_held(&self.costs).saturating_add(self.objective).saturating_add(pass)
    }

    /// Bytes of parameters, gradients and moments.
    pub(crate) fn resident(&self) -> u64 {
        self.costs.resident
    }

    /// Tokens of the largest pack.
    pub(crate) fn max_tokens(&self) -> usize {
        let tokens = self.activations.map(|bytes| bytes / self.costs.per_token.max(1));
        tokens.and_then(|tokens| usize::try_from(tokens).ok()).unwrap_or(usize::MAX)
    }

    /// Tokens that a pack computes: a shared prompt counts once.
    pub(crate) fn pack_tokens(&self, groups: &[impl GroupLengths], pack: &Pack) -> usize {
        pack.parts.iter().map(|part| self.part_tokens(&groups[part.group], part.responses.clone())).sum()
    }

    /// Tokens that a pack counts as in memory: more than it computes if it has images.
    pub(crate) fn pack_charge(&self, groups: &[impl GroupLengths], pack: &Pack) -> usize {
        let images = |part: &PackPart| self.prompts(part.responses.len()) * self.image_charge(&groups[part.group]);
        self.pack_tokens(groups, pack) + pack.parts.iter().map(images).sum::<usize>()
    }

    /// The same of a pack as the model reads it.
    pub(crate) fn batch_charge(&self, batch: &GroupBatch) -> usize {
        batch.num_tokens() + self.charge_of(batch.images.iter().map(|image| image.tokens.len()).sum())
    }

    /// How often a prompt stands in a pack with so many of its responses.
    fn prompts(&self, num_responses: usize) -> usize {
        if self.share_prompt { 1 } else { num_responses }
    }

    /// Tokens that a group computes.
    pub(crate) fn group_tokens(&self, group: &impl GroupLengths) -> usize {
        self.part_tokens(group, 0..group.num_responses())
    }

    fn part_tokens(&self, group: &impl GroupLengths, responses: Range<usize>) -> usize {
        self.prompts(responses.len()) * group.prompt_tokens()
            + responses.map(|response| group.response_tokens(response)).sum::<usize>()
    }

    /// Divides a micro-batch, in order, into as few packs as fit. A group that is too large is split by responses.
    ///
    /// # Errors
    /// A single response with its prompt does not fit; the error names the data's line.
    pub(crate) fn packs(&self, groups: &[impl GroupLengths]) -> Result<Vec<Pack>, TrainError> {
        self.packs_of(self.max_tokens(), groups)
    }

    /// [`PassBudget::packs`] of at most so many tokens.
    fn packs_of(&self, limit: usize, groups: &[impl GroupLengths]) -> Result<Vec<Pack>, TrainError> {
        let (mut packs, mut current, mut used) = (Vec::new(), Pack::default(), 0_usize);
        for (index, group) in groups.iter().enumerate() {
            for (responses, tokens) in self.divide(group, limit, || Ok(format!("line {} of the data", group.line())))? {
                if used > 0 && used.saturating_add(tokens) > limit {
                    packs.push(std::mem::take(&mut current));
                    used = 0;
                }
                current.parts.push(PackPart { group: index, responses });
                used += tokens;
            }
        }
        if !current.parts.is_empty() {
            packs.push(current);
        }
        Ok(packs)
    }

    /// Checks that every response of the groups at `indices` fits together with its prompt.
    ///
    /// # Errors
    /// A response does not fit; the error names file and line.
    pub(crate) fn check(&self, data: &DataSet, indices: impl Iterator<Item = usize>) -> Result<(), TrainError> {
        let limit = self.max_tokens();
        if data.longest() <= limit && self.costs.per_image_token == 0 {
            return Ok(());
        }
        for index in indices {
            self.divide(&data.head(index)?, limit, || data.location(index))?;
        }
        Ok(())
    }

    /// Divides a group into consecutive responses that fit into a pack, with the tokens of each part.
    fn divide(
        &self,
        group: &impl GroupLengths,
        limit: usize,
        location: impl FnOnce() -> Result<String, TrainError>,
    ) -> Result<Vec<(Range<usize>, usize)>, TrainError> {
        let prompt = group.prompt_tokens() + self.image_charge(group);
        let mut runs: Vec<(Range<usize>, usize)> = Vec::new();
        for index in 0..group.num_responses() {
            let response = group.response_tokens(index);
            let alone = prompt + response;
            if alone > limit {
                let tokens = alone - self.image_charge(group);
                return Err(self.too_long(location()?, index, [tokens, alone]));
            }
            let added = if self.share_prompt { response } else { alone };
            match runs.last_mut() {
                Some((responses, tokens)) if *tokens + added <= limit => {
                    responses.end = index + 1;
                    *tokens += added;
                }
                _ => runs.push((index..index + 1, alone)),
            }
        }
        Ok(runs)
    }

    fn too_long(&self, location: String, response: usize, [tokens, charge]: [usize; 2]) -> TrainError {
        TrainError::MemoryBudget {
            location,
            response,
            tokens,
            needed: format_bytes(self.least(charge)),
            budget: format_bytes(self.budget.unwrap_or(u64::MAX)),
            remedy: remedy(self.trains_adapter, "a larger memory_budget or a smaller max_length"),
        }
    }

    /// The model's input for a pack.
    pub(crate) fn batch(&self, groups: &[TokenizedGroup], pack: &Pack) -> GroupBatch {
        let parts = pack.parts.iter().map(|part| (&groups[part.group], part.responses.clone()));
        GroupBatch::parts(parts, self.share_prompt)
    }
}

/// What to do if the least that a run holds is too much.
fn remedy(trains_adapter: bool, larger: &str) -> String {
    let adapter = if trains_adapter { "" } else { ", or an adapter instead of all weights (use_peft: true)" };
    format!("use {larger}{adapter}. Blocks are recomputed already, as with gradient_checkpointing")
}
