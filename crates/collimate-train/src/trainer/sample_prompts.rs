//! The model's answers to a few prompts before and after training, for the report.

use collimate_data::counted;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use collimate_gallery::{PictureSamples, When};
use collimate_model::GenerateOptions;
use collimate_report::{Picture, Sample, Samples};
use collimate_text::{EncodedPrompt, PlacedImage, TextTokenizer, TokenizedGroup, with_one_token_an_image};

use super::nonfinite::drawn_or_noted;
use super::run::Run;
use crate::error::TrainError;
use collimate_progress::Observer;
use collimate_session::{AnswerCost, AnswerSizes, Session};

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
    /// In place of answers, of a model of pictures whose tokens can be decoded.
    pictures: Option<PictureSamples>,
}

/// Longest side of an image beside its answers, in pixels.
const LONGEST_SIDE: usize = 256;

/// A small form of an image; none is not worth a run.
fn picture(placed: &PlacedImage) -> Option<Picture> {
    Picture::from_png(&placed.image.thumbnail(LONGEST_SIDE).ok()?, &placed.describe())
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
        let prompts = groups.iter().filter_map(|group| group.prompt_ids.first().copied());
        let pictures = |tokens| {
            PictureSamples::new(recipe.model()?, &recipe.output_dir, tokens, prompts, recipe.seed)
                .map_err(TrainError::from)
        };
        let pictures = tokenizer.pictures().map(pictures).transpose()?.flatten();
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
            pictures,
        })
    }

    /// Seconds that the answers have taken.
    pub(super) fn seconds(&self) -> f64 {
        self.seconds + self.pictures.as_ref().map_or(0.0, PictureSamples::seconds)
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
        if let Some(pictures) = &mut self.pictures {
            let is_drawn = resume && pictures.is_drawn(When::Before);
            return if is_drawn { Ok(()) } else { Ok(pictures.draw(When::Before, LEAST_TIME, session, observer)?) };
        }
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
        let answers = self.answers(self.groups.len(), AnswerCost { time: LEAST_TIME, tokens }, session, observer)?;
        let prompts = self.groups.iter().zip(&self.locations).zip(answers).map(|((group, location), before)| {
            let best = group.responses.iter().rev().max_by(|a, b| a.reward.total_cmp(&b.reward));
            let best = best.map(|response| Ok::<_, TrainError>((self.text(&response.ids, true)?, response.reward)));
            let (best, reward) = best.transpose()?.unwrap_or_default();
            let prompt = self.text(&with_one_token_an_image(&group.prompt_ids, &group.images), false)?;
            let (location, images) = (location.clone(), group.images.iter().filter_map(picture).collect());
            let (before, before_cut) = (before.text, before.is_cut);
            Ok(Sample { location, prompt, images, best, reward, before, before_cut, ..Sample::default() })
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
        let time = LEAST_TIME.max(training.mul_f64(self.time_share / 2.0));
        if let Some(pictures) = &mut self.pictures {
            return Ok(pictures.draw(When::After, time, session, observer)?);
        }
        let Some(mut samples) = Samples::read(&self.folder).filter(|_| !self.groups.is_empty()) else { return Ok(()) };
        let answers = self.answers(samples.prompts.len(), AnswerCost { time, tokens: 0.0 }, session, observer)?;
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
        allowance: AnswerCost,
        session: &mut dyn Session,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Answer>, TrainError> {
        let begun = Instant::now();
        let groups = &self.groups[..count.min(self.groups.len())];
        observer.stage("answering sample prompts", Some(groups.len() as u64));
        // Some rotary embeddings are undefined beyond a length that an answer, unlike the data, might exceed.
        let longest = session.config().longest_sequence().unwrap_or(usize::MAX);
        let sizes = AnswerSizes { answer: self.options.max_new_tokens, longest, batch: self.max_tokens };
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
