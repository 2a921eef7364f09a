//! The prompts under which `collimate score` scores responses.

use std::collections::VecDeque;

use collimate_text::{TextTokenizer, TokenizedGroup};

use crate::error::CliError;

/// The prompt or condition of a row's responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Condition {
    /// The row's own
    Own,
    /// The null condition of a model of pictures
    Null,
    /// The next row's; the last row's is the first's
    Next,
}

/// Gives groups, which come a few at a time, these prompts.
pub(super) struct Prompts {
    condition: Condition,
    null: Vec<u32>,
    first: Option<Vec<u32>>,
    /// Groups whose next one has not come yet: at most one.
    waiting: VecDeque<TokenizedGroup>,
}

impl Prompts {
    /// # Errors
    /// The model has no null condition.
    pub(super) fn new(condition: Condition, tokenizer: &TextTokenizer) -> Result<Self, CliError> {
        let null = match (condition, tokenizer.pictures()) {
            (Condition::Null, None) => return Err(CliError::usage("--condition null is for models of pictures")),
            (_, pictures) => pictures.map(|pictures| pictures.null_condition()).into_iter().collect(),
        };
        Ok(Self { condition, null, first: None, waiting: VecDeque::new() })
    }

    /// The groups that have their prompts now that these have come; `is_end` if no more will.
    pub(super) fn of(&mut self, groups: Vec<TokenizedGroup>, is_end: bool) -> Vec<TokenizedGroup> {
        let with = |group: TokenizedGroup, prompt: &[u32]| TokenizedGroup { prompt_ids: prompt.to_vec(), ..group };
        match self.condition {
            Condition::Own => groups,
            Condition::Null => groups.into_iter().map(|group| with(group, &self.null)).collect(),
            Condition::Next => {
                let mut ready = Vec::with_capacity(groups.len() + 1);
                for group in groups {
                    self.first.get_or_insert_with(|| group.prompt_ids.clone());
                    ready.extend(self.waiting.pop_front().map(|before| with(before, &group.prompt_ids)));
                    self.waiting.push_back(group);
                }
                if let (true, Some(first)) = (is_end, &self.first) {
                    ready.extend(self.waiting.pop_front().map(|last| with(last, first)));
                }
                ready
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(prompt: u32) -> TokenizedGroup {
        TokenizedGroup { line: 1, prompt_ids: vec![prompt], ..TokenizedGroup::default() }
    }

    #[test]
    fn each_group_gets_the_next_ones_prompt_however_they_come() {
        for sizes in [[1, 1, 1], [3, 0, 0], [2, 0, 1], [0, 1, 2]] {
            let mut prompts =
                Prompts { condition: Condition::Next, null: Vec::new(), first: None, waiting: VecDeque::new() };
            let (mut next, mut found) = (10, Vec::new());
            for size in sizes {
                let groups: Vec<_> = (next..next + size).map(group).collect();
                next += size;
                found.extend(prompts.of(groups, false));
            }
            found.extend(prompts.of(Vec::new(), true));
            let found: Vec<u32> = found.iter().map(|group| group.prompt_ids[0]).collect();
            assert_eq!(found, [11, 12, 10], "{sizes:?}");
        }
    }
}
