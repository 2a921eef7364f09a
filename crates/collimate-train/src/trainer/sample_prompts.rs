//! The model's answers to a few prompts before and after training, for the report.

use collimate_data::counted;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use collimate_model::{GenerateOptions, TimeLimit};
use collimate_report::{Sample, Samples};
use collimate_text::{EncodedPrompt, TextTokenizer, TokenizedGroup};

use super::nonfinite::drawn_or_noted;
use super::run::Run;
use crate::error::TrainError;
use collimate_progress::Observer;
use collimate_session::Session;

/// Time that answers before or after training may take in any case.
const LEAST_TIME: Duration = Duration::from_secs(1);
/// Time of a token of a training step, forward and backward, in times of one that is only computed forward.
const PASSES_OF_A_STEP: f64 = 3.0;

/// The first prompts of held-out or training data, in tokens.
#[derive(Debug)]
pub(super) struct SamplePrompts<'a> {
    tokenizer: &'a TextTokenizer,
    groups: Vec<TokenizedGroup>,
    /// File and line of each group.
    locations: Vec<String>,
    options: GenerateOptions,
    /// The run's folder.
    folder: PathBuf,
    /// Tokens that are computed at once.
    max_tokens: usize,
    /// Tokens that the run's steps compute.
    run_tokens: f64,
    /// Share of the run's time that the answers may take, before and after training together.
    time_share: f64,
    /// Time that they have taken so far.
    seconds: f64,
}

/// An answer, and whether it was cut to save time.
struct Answer {
    text: String,
    is_cut: bool,
}

impl<'a> SamplePrompts<'a> {
    /// Takes as many of the first prompts of the run's data as its recipe asks for.
    pub(super) fn new(run: &Run<'_>, tokenizer: &'a TextTokenizer) -> Result<Self, TrainError> {
        let (recipe, data) = (run.recipe, run.shown());
        let indices: Vec<usize> = (0..recipe.sample_prompts.min(data.len())).collect();
        let groups = data.select(&indices)?;
        let options = GenerateOptions {
            max_new_tokens: recipe.sample_max_new_tokens,
            ends: tokenizer.turn_ends().clone(),
            ..GenerateOptions::default()
        };
        let locations = indices.iter().map(|index| data.location(*index)).collect::<Result<_, _>>()?;
        let epoch_tokens = run.training.totals().num_tokens() as f64;
        Ok(Self {
            tokenizer,
            groups,
            locations,
            options,
            folder: recipe.output_dir.clone(),
            max_tokens: run.budget.max_tokens(),
            run_tokens: epoch_tokens * run.counts.total_steps as f64 / run.counts.steps_per_epoch as f64,
            time_share: recipe.sample_time_share,
            seconds: 0.0,
        })
    }

    /// Seconds that the answers have taken.
    pub(super) fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Writes the answers of the initial model; a resumed run keeps existing ones.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn before(
        &mut self,
        session: &mut dyn Session,
        resume: bool,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let is_there = || {
            let samples = Samples::read(&self.folder)?;
            let count = samples.prompts.len();
            let is_enough = if self.is_bounded() { count >= 1 } else { count == self.groups.len() };
            let fits = count <= self.groups.len() && samples.max_new_tokens == self.options.max_new_tokens;
            Some(is_enough && fits)
        };
        if self.groups.is_empty() || (resume && is_there().unwrap_or(false)) {
            return Ok(());
        }
        let tokens = self.time_share / 2.0 * PASSES_OF_A_STEP * self.run_tokens;
        let answers = self.answers(self.groups.len(), Allowance { time: LEAST_TIME, tokens }, session, observer)?;
        let prompts = self.groups.iter().zip(&self.locations).zip(answers).map(|((group, location), before)| {
            let best = group.responses.iter().rev().max_by(|a, b| a.reward.total_cmp(&b.reward));
            let best = best.map(|response| Ok::<_, TrainError>((self.text(&response.ids, true)?, response.reward)));
            let (best, reward) = best.transpose()?.unwrap_or_default();
            let prompt = self.text(&group.prompt_ids, false)?;
            let (before, before_cut) = (before.text, before.is_cut);
            Ok(Sample { location: location.clone(), prompt, best, reward, before, before_cut, ..Sample::default() })
        });
        let prompts = prompts.collect::<Result<_, TrainError>>()?;
        Ok(Samples { max_new_tokens: self.options.max_new_tokens, prompts }.write(&self.folder)?)
    }

    /// Adds the answers of the trained model; `training` is the time that its steps took.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn after(
        &mut self,
        training: Duration,
        session: &mut dyn Session,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let Some(mut samples) = Samples::read(&self.folder).filter(|_| !self.groups.is_empty()) else { return Ok(()) };
        let time = LEAST_TIME.max(training.mul_f64(self.time_share / 2.0));
        let answers = self.answers(samples.prompts.len(), Allowance { time, tokens: 0.0 }, session, observer)?;
        for (sample, answer) in samples.prompts.iter_mut().zip(answers) {
            (sample.after, sample.after_cut) = (Some(answer.text), answer.is_cut);
        }
        Ok(samples.write(&self.folder)?)
    }

    /// Whether the answers' time is bounded.
    fn is_bounded(&self) -> bool {
        self.time_share < 1.0
    }

    /// Answers the first `count` prompts, or as many of them as may be.
    fn answers(
        &mut self,
        count: usize,
        allowance: Allowance,
        session: &mut dyn Session,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Answer>, TrainError> {
        let begun = Instant::now();
        let groups = &self.groups[..count.min(self.groups.len())];
        observer.stage("answering sample prompts", Some(groups.len() as u64));
        // Some rotary embeddings are undefined beyond a length that an answer, unlike the data, might exceed.
        let longest = session.config().longest_sequence().unwrap_or(usize::MAX);
        let sizes = Sizes { answer: self.options.max_new_tokens, longest, batch: self.max_tokens };
        // The first prompt shows how long one takes.
        let batches = sizes.batches(groups, self.is_bounded());
        let part = allowance.divided(batches.len());
        let tokens = |range: Range<usize>| groups[range].iter().map(|group| group.prompt_ids.len()).sum::<usize>();
        let mut answers = Vec::with_capacity(groups.len());
        for batch in batches {
            if self.is_bounded() && !allowance.allows(begun.elapsed(), tokens(0..batch.start), tokens(0..batch.end)) {
                break;
            }
            let first = batch.start;
            let prompts: Vec<EncodedPrompt> = groups[batch.clone()].iter().map(TokenizedGroup::prompt).collect();
            let room = longest.saturating_sub(prompts.iter().map(EncodedPrompt::len).max().unwrap_or(0));
            let options = GenerateOptions {
                max_new_tokens: self.options.max_new_tokens.min(room),
                time_limit: self.is_bounded().then(|| part.limit(tokens(batch))),
                ..self.options.clone()
            };
            let drawn = session.generate(&prompts, &options, &mut |_| {});
            let location = |prompt: usize| format!("sample prompt {}", self.locations[first + prompt]);
            let Some(drawn) = drawn_or_noted(drawn, location, observer)? else { return Ok(answers) };
            for ids in drawn.into_iter().flatten() {
                let is_cut = ids.len() < options.max_new_tokens && !options.ends.is_reached(&ids);
                answers.push(Answer { text: self.tokenizer.answer(&ids)?, is_cut });
            }
            observer.advance(prompts.len() as u64);
        }
        observer.finish();
        if answers.len() < groups.len() || answers.iter().any(|answer| answer.is_cut) {
            observer.note(&format!(
                "answers to {} of {}, {} of them cut short: they may take {} % of the run's time \
                 (sample_time_share)",
                answers.len(),
                counted(groups.len(), "sample prompt"),
                answers.iter().filter(|answer| answer.is_cut).count(),
                100.0 * self.time_share
            ));
        }
        self.seconds += begun.elapsed().as_secs_f64();
        Ok(answers)
    }

    fn text(&self, ids: &[u32], skip_special: bool) -> Result<String, TrainError> {
        Ok(self.tokenizer.decode(ids, skip_special)?)
    }
}

/// What answers may cost: this time, or that of as many tokens' forward pass if it is longer.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Allowance {
    time: Duration,
    tokens: f64,
}

impl Allowance {
    /// The share of one of `parts` batches.
    fn divided(self, parts: usize) -> Self {
        let parts = parts.max(1);
        Self { time: self.time / parts as u32, tokens: self.tokens / parts as f64 }
    }

    /// The limit on decoding after prompts of this many tokens.
    fn limit(self, prompt_tokens: usize) -> TimeLimit {
        TimeLimit { at_least: self.time, times_prompts: self.tokens / prompt_tokens.max(1) as f64 }
    }

    /// Whether more prompts, `all` tokens with those that were answered, may be answered if the `done` tokens of these
    /// took `spent`. The first prompt always is.
    fn allows(self, spent: Duration, done: usize, all: usize) -> bool {
        done == 0 || all as f64 <= self.tokens || spent.mul_f64(all as f64 / done as f64) <= self.time
    }
}

/// Limits on lengths, in tokens.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Of an answer.
    answer: usize,
    /// Of a prompt with its answer.
    longest: usize,
    /// Of a batch of prompts with their answers, padded to the longest.
    batch: usize,
}

impl Sizes {
    /// Divides prompts into batches. A prompt that leaves less room than an answer may need is answered alone, so that it
    /// shortens no other answer.
    fn batches(self, groups: &[TokenizedGroup], first_alone: bool) -> Vec<Range<usize>> {
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
        let batches = Sizes { answer: 4, longest, batch }.batches(&groups(lengths), first_alone);
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
        let allowance = Allowance { time: Duration::from_secs(1), tokens: 50.0 };
        let allows = |millis, done, all| allowance.allows(Duration::from_millis(millis), done, all);
        assert!(allows(9000, 0, 100));
        // 10 tokens in 0.2 s are 50 in 1 s; in 0.3 s they are 1.5 s, which 50 tokens still may take.
        assert!(allows(200, 10, 50) && allows(300, 10, 50) && allows(100, 10, 100) && !allows(300, 10, 51));
        let limit = allowance.divided(2).limit(5);
        assert_eq!(limit, TimeLimit { at_least: Duration::from_millis(500), times_prompts: 5.0 });
    }
}
