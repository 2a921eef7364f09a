//! Dividing a batch into packs that fit into memory.

use std::ops::Range;

use collimate_data::DataFiles;
use collimate_model::MemoryCosts;
use collimate_text::{GroupBatch, TokenizedGroup};

use crate::error::TrainError;

/// Memory of the program itself, the data and what allocators leave unused.
pub(crate) const OVERHEAD: u64 = 96 << 20;

/// What of the memory budget is left for passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryPlan {
    /// Bytes for the activations of one pack; `None` without a bound.
    activations: Option<u64>,
    budget: Option<u64>,
    costs: MemoryCosts,
    share_prompt: bool,
}

/// Some responses of some groups of a batch: the group's place in the batch, and its responses.
pub(crate) type Pack = Vec<(usize, Range<usize>)>;

impl MemoryPlan {
    /// `budget` is for everything that a run holds.
    ///
    /// # Errors
    /// The budget does not even hold the parameters with their gradients and moments.
    pub(crate) fn new(budget: Option<u64>, costs: MemoryCosts, share_prompt: bool) -> Result<Self, TrainError> {
        let held = costs.resident + OVERHEAD;
        let activations = match budget {
            Some(budget) if budget <= held => {
                let message = format!(
                    "{} is too little: parameters, gradients and optimizer alone need {}",
                    in_words(budget),
                    in_words(held)
                );
                return Err(TrainError::RecipeValue { key: "memory_budget", message });
            }
            budget => budget.map(|budget| budget - held),
        };
        Ok(Self { activations, budget, costs, share_prompt })
    }

    /// What is held and what fits, for people.
    pub(crate) fn describe(&self) -> String {
        let held = in_words(self.costs.resident);
        match self.budget {
            Some(budget) => format!(
                "memory: {held} for parameters and optimizer; packs of up to {} tokens fit into {}",
                self.max_tokens(),
                in_words(budget)
            ),
            None => format!("memory: {held} for parameters and optimizer; packs are not bounded"),
        }
    }

    /// Bytes of parameters, gradients and moments.
    pub(crate) fn resident(&self) -> u64 {
        self.costs.resident
    }

    /// Tokens of the longest pack.
    pub(crate) fn max_tokens(&self) -> usize {
        let tokens = self.activations.map(|bytes| bytes / self.costs.per_token.max(1));
        tokens.and_then(|tokens| usize::try_from(tokens).ok()).unwrap_or(usize::MAX)
    }

    /// How many blocks of a pack of so many tokens may keep their activations.
    pub(crate) fn kept_blocks(&self, num_tokens: usize) -> usize {
        let Some(activations) = self.activations else { return self.costs.num_blocks };
        let tokens = num_tokens as u64;
        let left = activations.saturating_sub(tokens * self.costs.per_token);
        let kept = left / (tokens * self.costs.per_kept_block).max(1);
        usize::try_from(kept).unwrap_or(usize::MAX).min(self.costs.num_blocks)
    }

    /// Bytes that a pack of so many tokens needs beside what is always held, with so many blocks kept.
    ///
    /// A block that runs again does so when those that were kept are done with, so it adds nothing to them.
    pub(crate) fn pack_bytes(&self, num_tokens: usize, kept_blocks: usize) -> u64 {
        let at_once = kept_blocks.saturating_sub(1) as u64;
        num_tokens as u64 * (self.costs.per_token + at_once * self.costs.per_kept_block)
    }

    /// Tokens of a pack as they are computed.
    pub(crate) fn pack_tokens(&self, groups: &[&TokenizedGroup], pack: &Pack) -> usize {
        let tokens = |(place, numbers): &(usize, Range<usize>)| {
            let (prompt, responses) = (groups[*place].prompt_ids.len(), &groups[*place].responses[numbers.clone()]);
            let prompts = if self.share_prompt { 1 } else { responses.len() };
            prompts * prompt + responses.iter().map(|response| response.ids.len()).sum::<usize>()
        };
        pack.iter().map(tokens).sum()
    }

    /// Divides a batch, in its order, into as few packs as fit; a group that does not fit is divided by responses.
    ///
    /// # Errors
    /// One response with its prompt does not fit; names the data's line.
    pub(crate) fn packs(&self, groups: &[&TokenizedGroup]) -> Result<Vec<Pack>, TrainError> {
        let limit = self.max_tokens();
        let (mut packs, mut current, mut used): (Vec<Pack>, Pack, usize) = (Vec::new(), Vec::new(), 0);
        for (place, group) in groups.iter().enumerate() {
            for (numbers, tokens) in self.parts(group, limit, || format!("line {} of the data", group.line))? {
                if used > 0 && used.saturating_add(tokens) > limit {
                    packs.push(std::mem::take(&mut current));
                    used = 0;
                }
                current.push((place, numbers));
                used += tokens;
            }
        }
        if !current.is_empty() {
            packs.push(current);
        }
        Ok(packs)
    }

    /// Whether every response fits with its prompt.
    ///
    /// # Errors
    /// One does not; names file and line.
    pub(crate) fn check(&self, files: &DataFiles, groups: &[TokenizedGroup]) -> Result<(), TrainError> {
        let limit = self.max_tokens();
        for group in groups {
            self.parts(group, limit, || files.place(group.index, group.line))?;
        }
        Ok(())
    }

    /// The parts of a group that fit into a pack each, and their tokens.
    fn parts(
        &self,
        group: &TokenizedGroup,
        limit: usize,
        place: impl FnOnce() -> String,
    ) -> Result<Vec<(Range<usize>, usize)>, TrainError> {
        let prompt = group.prompt_ids.len();
        let mut parts: Vec<(Range<usize>, usize)> = Vec::new();
        for (number, response) in group.responses.iter().enumerate() {
            let alone = prompt + response.ids.len();
            if alone > limit {
                return Err(self.too_long(place(), number, alone));
            }
            let more = if self.share_prompt { response.ids.len() } else { alone };
            match parts.last_mut() {
                Some((numbers, tokens)) if *tokens + more <= limit => {
                    numbers.end = number + 1;
                    *tokens += more;
                }
                _ => parts.push((number..number + 1, alone)),
            }
        }
        Ok(parts)
    }

    fn too_long(&self, place: String, response: usize, tokens: usize) -> TrainError {
        let needed = self.costs.resident + OVERHEAD + tokens as u64 * self.costs.per_token;
        TrainError::MemoryBudget {
            place,
            response,
            tokens,
            needed: in_words(needed),
            budget: in_words(self.budget.unwrap_or(u64::MAX)),
        }
    }

    /// The tensors' view of a pack.
    pub(crate) fn batch(&self, groups: &[&TokenizedGroup], pack: &[(usize, Range<usize>)]) -> GroupBatch {
        GroupBatch::parts(pack.iter().map(|(place, numbers)| (groups[*place], numbers.clone())), self.share_prompt)
    }
}

/// What a pack has of values that a batch has by group and response.
pub(crate) fn of_pack<T: Clone>(values: &[Vec<T>], pack: &[(usize, Range<usize>)]) -> Vec<Vec<T>> {
    pack.iter().map(|(place, numbers)| values[*place][numbers.clone()].to_vec()).collect()
}

/// Bytes as people read them.
pub fn in_words(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1024.0 { format!("{mib:.1} MiB") } else { format!("{:.1} GiB", mib / 1024.0) }
}

#[cfg(test)]
mod tests {
    use collimate_text::TokenizedResponse;
    use rstest::rstest;

    use super::*;

    const COSTS: MemoryCosts =
        MemoryCosts { weights: 400, resident: 1000, per_token: 10, per_kept_block: 4, num_blocks: 5 };

    fn group(line: usize, prompt: usize, lengths: &[usize]) -> TokenizedGroup {
        let response = |&len: &usize| TokenizedResponse { ids: vec![1; len], reward: 0.0, num_cut: 0 };
        TokenizedGroup {
            index: line - 1,
            line,
            prompt_ids: vec![1; prompt],
            num_prompt_cut: 0,
            responses: lengths.iter().map(response).collect(),
        }
    }

    fn plan(max_tokens: u64, share_prompt: bool) -> MemoryPlan {
        let budget = OVERHEAD + COSTS.resident + COSTS.per_token * max_tokens;
        MemoryPlan::new(Some(budget), COSTS, share_prompt).expect("a plan")
    }

    #[rstest]
    // Everything fits: 10 + 4·5 + 10 + 2·5 = 50 tokens.
    #[case(50, true, "0:0..4 1:0..2")]
    // A group stays whole where it fits into a pack of its own.
    #[case(49, true, "0:0..4 | 1:0..2")]
    // Two responses with their prompt are 20 tokens.
    #[case(20, true, "0:0..2 | 0:2..4 | 1:0..2")]
    // With a prompt of its own each response has 15 tokens.
    #[case(30, false, "0:0..2 | 0:2..4 | 1:0..2")]
    #[case(15, false, "0:0..1 | 0:1..2 | 0:2..3 | 0:3..4 | 1:0..1 | 1:1..2")]
    fn packs_are_few_and_fit(#[case] limit: u64, #[case] share: bool, #[case] expected: &str) {
        let groups = [group(1, 10, &[5; 4]), group(2, 10, &[5; 2])];
        let packs = plan(limit, share).packs(&[&groups[0], &groups[1]]).expect("packs");
        let part = |(place, numbers): &(usize, Range<usize>)| format!("{place}:{numbers:?}");
        let pack = |pack: &Pack| pack.iter().map(part).collect::<Vec<_>>().join(" ");
        assert_eq!(packs.iter().map(pack).collect::<Vec<_>>().join(" | "), expected);
    }

    #[rstest]
    #[case(true, 2 * 10 + 4 * 5 + 2 * 5)]
    #[case(false, 6 * (10 + 5))]
    fn a_pack_has_the_tokens_of_its_batch(#[case] share: bool, #[case] tokens: usize) {
        let groups = [group(1, 10, &[5; 4]), group(2, 10, &[5; 2])];
        let (plan, groups) = (plan(100, share), [&groups[0], &groups[1]]);
        let pack = vec![(0, 0..4), (1, 0..2)];
        assert_eq!(plan.pack_tokens(&groups, &pack), tokens);
        assert_eq!(plan.batch(&groups, &pack).num_tokens(), tokens);
        assert_eq!(plan.pack_bytes(tokens, 2), tokens as u64 * (10 + 4));
        assert_eq!(plan.pack_bytes(tokens, 0), plan.pack_bytes(tokens, 1));
    }

    #[test]
    fn a_response_that_fits_nowhere_is_named() {
        let groups = [group(7, 10, &[5, 6])];
        let error = plan(15, true).packs(&[&groups[0]]).expect_err("16 tokens").to_string();
        assert!(error.starts_with("line 7 of the data, response 1: 16 tokens with its prompt"), "{error}");
        let files = DataFiles::one("data.jsonl");
        let error = plan(15, true).check(&files, &groups).expect_err("16 tokens").to_string();
        assert!(error.starts_with("data.jsonl:7, response 1: 16 tokens"), "{error}");
        assert!(plan(16, true).check(&files, &groups).is_ok());
    }

    #[test]
    fn what_is_left_of_the_budget_keeps_activations() {
        // 100 tokens leave 100 · 10 bytes, 2 blocks of 100 · 4 and something.
        assert_eq!(plan(200, true).kept_blocks(100), 2);
        assert_eq!(plan(100, true).kept_blocks(100), 0);
        assert_eq!(plan(10_000, true).kept_blocks(100), 5);
        let unbounded = MemoryPlan::new(None, COSTS, true).expect("a plan");
        assert_eq!(unbounded.kept_blocks(1 << 40), 5);
    }

    #[test]
    fn a_budget_below_the_parameters_is_refused() {
        let error = MemoryPlan::new(Some(1000), COSTS, true).expect_err("no room").to_string();
        assert!(error.contains("memory_budget") && error.contains("too little"), "{error}");
    }

    #[test]
    fn values_follow_their_pack() {
        let values = vec![vec![1, 2, 3], vec![4, 5]];
        assert_eq!(of_pack(&values, &[(0, 1..3), (1, 0..1)]), [vec![2, 3], vec![4]]);
    }
}
