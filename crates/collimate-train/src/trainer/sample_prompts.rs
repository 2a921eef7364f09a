//! The model's answers to a few prompts before and after training, for the report.

use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use collimate_model::{GenerateOptions, TimeLimit};
use collimate_report::{Sample, Samples};
use collimate_text::{TextTokenizer, TokenizedGroup};

use super::run::Run;
use crate::error::TrainError;
use crate::session::Session;
use collimate_progress::Observer;

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
    pub(super) fn new(run: &Run<'_>, tokenizer: &'a TextTokenizer) -> Self {
        let (recipe, data) = (run.recipe, run.shown());
        let groups = data.groups[..recipe.sample_prompts.min(data.groups.len())].to_vec();
        let options = GenerateOptions {
            max_new_tokens: recipe.sample_max_new_tokens,
            ends: tokenizer.turn_ends().clone(),
            ..GenerateOptions::default()
        };
        let locations = groups.iter().map(|group| data.location(group)).collect();
        let epoch_tokens = run.training.groups.iter().map(TokenizedGroup::num_tokens).sum::<usize>() as f64;
        Self {
            tokenizer,
            groups,
            locations,
            options,
            folder: recipe.output_dir.clone(),
            max_tokens: run.budget.max_tokens(),
            run_tokens: epoch_tokens * run.counts.total_steps as f64 / run.counts.steps_per_epoch as f64,
            time_share: recipe.sample_time_share,
            seconds: 0.0,
        }
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
            Some(samples.prompts.len() == self.groups.len() && samples.max_new_tokens == self.options.max_new_tokens)
        };
        if self.groups.is_empty() || (resume && is_there().unwrap_or(false)) {
            return Ok(());
        }
        let prompt_tokens = self.groups.iter().map(|group| group.prompt_ids.len()).sum::<usize>() as f64;
        let times_prompts = self.time_share / 2.0 * PASSES_OF_A_STEP * self.run_tokens / prompt_tokens;
        let answers = self.answers(TimeLimit { at_least: LEAST_TIME, times_prompts }, session, observer)?;
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
        let at_least = LEAST_TIME.max(training.mul_f64(self.time_share / 2.0));
        let answers = self.answers(TimeLimit { at_least, times_prompts: 0.0 }, session, observer)?;
        for (sample, answer) in samples.prompts.iter_mut().zip(answers) {
            (sample.after, sample.after_cut) = (Some(answer.text), answer.is_cut);
        }
        Ok(samples.write(&self.folder)?)
    }

    /// Answers all prompts within a time.
    fn answers(
        &mut self,
        limit: TimeLimit,
        session: &mut dyn Session,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Answer>, TrainError> {
        let begun = Instant::now();
        observer.stage("answering sample prompts", Some(self.groups.len() as u64));
        // Some rotary embeddings are undefined beyond a length that an answer, unlike the data, might exceed.
        let longest = session.config().longest_sequence().unwrap_or(usize::MAX);
        let batches = batches(&self.groups, self.options.max_new_tokens, longest, self.max_tokens);
        let parts = batches.len().max(1) as u32;
        let at_least = limit.at_least / parts;
        let limit = TimeLimit { at_least, times_prompts: limit.times_prompts };
        let mut answers = Vec::with_capacity(self.groups.len());
        for batch in batches {
            let prompts: Vec<Vec<u32>> = self.groups[batch].iter().map(|group| group.prompt_ids.clone()).collect();
            let room = longest.saturating_sub(prompts.iter().map(Vec::len).max().unwrap_or(0));
            let options = GenerateOptions {
                max_new_tokens: self.options.max_new_tokens.min(room),
                time_limit: (self.time_share < 1.0).then_some(limit),
                ..self.options.clone()
            };
            for ids in session.generate(&prompts, &options, &mut |_| {})?.into_iter().flatten() {
                let is_cut = ids.len() < options.max_new_tokens && !options.ends.is_reached(&ids);
                answers.push(Answer { text: self.tokenizer.answer(&ids)?, is_cut });
            }
            observer.advance(prompts.len() as u64);
        }
        observer.finish();
        self.seconds += begun.elapsed().as_secs_f64();
        if answers.iter().any(|answer| answer.is_cut) {
            observer.note(&format!(
                "sample answers were cut short: they may take {} % of the run's time (sample_time_share)",
                100.0 * self.time_share
            ));
        }
        Ok(answers)
    }

    fn text(&self, ids: &[u32], skip_special: bool) -> Result<String, TrainError> {
        Ok(self.tokenizer.decode(ids, skip_special)?)
    }
}

/// Divides prompts into batches of at most `max_tokens` tokens with their answers, padded to the longest. A prompt that
/// leaves less room than an answer may need is answered alone, so that it shortens no other answer.
fn batches(groups: &[TokenizedGroup], answer: usize, longest: usize, max_tokens: usize) -> Vec<Range<usize>> {
    let mut batches: Vec<Range<usize>> = Vec::new();
    let is_alone = |index: usize| groups[index].prompt_ids.len().saturating_add(answer) > longest;
    for index in 0..groups.len() {
        let start = batches.last().map_or(index, |batch| batch.start);
        let widest = groups[start..=index].iter().map(|group| group.prompt_ids.len()).max().unwrap_or(0);
        let fits = (index + 1 - start).saturating_mul(widest.saturating_add(answer)) <= max_tokens;
        match batches.last_mut() {
            Some(batch) if fits && !is_alone(index) && !is_alone(batch.start) => batch.end = index + 1,
            _ => batches.push(index..index + 1),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(lengths: &[usize]) -> Vec<TokenizedGroup> {
        let group = |&length: &usize| TokenizedGroup {
            index: 0,
            line: 1,
            prompt_ids: vec![1; length],
            num_prompt_cut: 0,
            responses: Vec::new(),
        };
        lengths.iter().map(group).collect()
    }

    #[test]
    fn prompts_are_answered_together_where_they_fit() {
        let of = |lengths: &[usize], longest, max_tokens| batches(&groups(lengths), 4, longest, max_tokens);
        assert_eq!(of(&[3, 5, 2], usize::MAX, usize::MAX), [0..3]);
        // Padded, 2 · (5 + 4) tokens fit into 18, and 3 · 9 do not.
        assert_eq!(of(&[3, 5, 2], usize::MAX, 18), [0..2, 2..3]);
        assert_eq!(of(&[3, 5, 2], usize::MAX, 1), [0..1, 1..2, 2..3]);
        // 7 + 4 is more than 10, so the second would shorten the others.
        assert_eq!(of(&[3, 7, 2, 2], 10, usize::MAX), [0..1, 1..2, 2..4]);
        assert!(of(&[], 10, 10).is_empty());
    }
}
