//! What drawing answers to a few prompts may cost, and which of them go through the model together.

use std::ops::Range;
use std::time::Duration;

use collimate_model::TimeLimit;
use collimate_text::TokenizedGroup;

/// What answers may cost: this time, or that of as many tokens' forward pass if it is longer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnswerCost {
    /// Time.
    pub time: Duration,
    /// Tokens.
    pub tokens: f64,
}

impl AnswerCost {
    /// The share of one of `parts` batches.
    pub fn divided(self, parts: usize) -> Self {
        let parts = parts.max(1);
        Self { time: self.time / parts as u32, tokens: self.tokens / parts as f64 }
    }

    /// The limit on decoding after prompts of this many tokens.
    pub fn limit(self, prompt_tokens: usize) -> TimeLimit {
        TimeLimit { at_least: self.time, times_prompts: self.tokens / prompt_tokens.max(1) as f64 }
    }

    /// Whether more prompts, `all` tokens with those that were answered, may be answered if the `done` tokens of these
    /// took `spent`. The first prompt always is.
    pub fn allows(self, spent: Duration, done: usize, all: usize) -> bool {
        done == 0 || all as f64 <= self.tokens || spent.mul_f64(all as f64 / done as f64) <= self.time
    }
}

/// Limits on lengths, in tokens.
#[derive(Debug, Clone, Copy)]
pub struct AnswerSizes {
    /// Of an answer.
    pub answer: usize,
    /// Of a prompt with its answer.
    pub longest: usize,
    /// Of a batch of prompts with their answers, padded to the longest.
    pub batch: usize,
}

impl AnswerSizes {
    /// Divides prompts into batches. A prompt that leaves less room than an answer may need is answered alone, so that it
    /// shortens no other answer.
    pub fn batches(self, groups: &[TokenizedGroup], first_alone: bool) -> Vec<Range<usize>> {
        let mut batches: Vec<Range<usize>> = Vec::new();
        let is_alone = |index: usize| {
            (first_alone && index == 0) || groups[index].prompt_ids.len().saturating_add(self.answer) > self.longest
        };
        for index in 0..groups.len() {
            let start = batches.last().map_or(index, |batch| batch.start);
            let widest = groups[start..=index].iter().map(|group| group.prompt_ids.len()).max().unwrap_or(0);
            let fits = (index + 1 - start).saturating_mul(widest.saturating_add(self.answer)) <= self.batch;
            match batches.last_mut() {
                Some(batch) if fits && !is_alone(index) && !is_alone(batch.start) => batch.end = index + 1,
                _ => batches.push(index..index + 1),
            }
        }
        batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(lengths: &[usize]) -> Vec<TokenizedGroup> {
        let group = |&length: &usize| TokenizedGroup {
            index: 0,
            line: 1,
            prompt_ids: vec![1; length],
            responses: Vec::new(),
            ..TokenizedGroup::default()
        };
        lengths.iter().map(group).collect()
    }

    /// Where each batch begins and ends.
    fn divided(lengths: &[usize], longest: usize, batch: usize, first_alone: bool) -> Vec<(usize, usize)> {
        let batches = AnswerSizes { answer: 4, longest, batch }.batches(&groups(lengths), first_alone);
        batches.into_iter().map(|batch| (batch.start, batch.end)).collect()
    }

    #[test]
    fn prompts_are_answered_together_where_they_fit() {
        let of = |lengths: &[usize], longest, batch| divided(lengths, longest, batch, false);
        assert_eq!(of(&[3, 5, 2], usize::MAX, usize::MAX), [(0, 3)]);
        // Padded, 2 · (5 + 4) tokens fit into 18, and 3 · 9 do not.
        assert_eq!(of(&[3, 5, 2], usize::MAX, 18), [(0, 2), (2, 3)]);
        assert_eq!(of(&[3, 5, 2], usize::MAX, 1), [(0, 1), (1, 2), (2, 3)]);
        // 7 + 4 is more than 10, so the second would shorten the others.
        assert_eq!(of(&[3, 7, 2, 2], 10, usize::MAX), [(0, 1), (1, 2), (2, 4)]);
        assert!(of(&[], 10, 10).is_empty());
    }

    #[test]
    fn the_first_prompt_shows_how_long_the_others_take() {
        assert_eq!(divided(&[3, 5, 2], usize::MAX, usize::MAX, true), [(0, 1), (1, 3)]);
        let allowance = AnswerCost { time: Duration::from_secs(1), tokens: 50.0 };
        let allows = |millis, done, all| allowance.allows(Duration::from_millis(millis), done, all);
        assert!(allows(9000, 0, 100));
        // 10 tokens in 0.2 s are 50 in 1 s; in 0.3 s they are 1.5 s, which 50 tokens still may take.
        assert!(allows(200, 10, 50) && allows(300, 10, 50) && allows(100, 10, 100) && !allows(300, 10, 51));
        let limit = allowance.divided(2).limit(5);
        assert_eq!(limit, TimeLimit { at_least: Duration::from_millis(500), times_prompts: 5.0 });
    }
}
