//! What the model answers to a few prompts before and after training: `samples.json` of a run's folder.

use std::path::Path;

use collimate_data::DataFiles;
use collimate_model::GenerateOptions;
use collimate_recipe::Recipe;
use collimate_report::{Sample, Samples};
use collimate_text::{TextTokenizer, TokenizedGroup};

use crate::error::TrainError;
use crate::progress::Observer;
use crate::session::Session;

/// The first prompts of held-out or training data, in tokens.
#[derive(Debug)]
pub(crate) struct SamplePrompts<'a> {
    tokenizer: &'a TextTokenizer,
    groups: Vec<TokenizedGroup>,
    places: Vec<String>,
    options: GenerateOptions,
}

impl<'a> SamplePrompts<'a> {
    /// The first prompts of `groups`, as many as the recipe asks for.
    pub(crate) fn new(
        recipe: &Recipe,
        tokenizer: &'a TextTokenizer,
        (groups, files): (&[TokenizedGroup], &DataFiles),
    ) -> Self {
        let groups = groups[..recipe.sample_prompts.min(groups.len())].to_vec();
        // What ends a response of the data, a turn's end say, ends an answer.
        let whole = groups.iter().flat_map(|group| &group.responses).filter(|response| response.num_cut == 0);
        let mut stop_ids: Vec<u32> = whole.filter_map(|response| response.ids.last().copied()).collect();
        stop_ids.push(tokenizer.eos_id());
        stop_ids.sort_unstable();
        stop_ids.dedup();
        let options = GenerateOptions {
            max_new_tokens: recipe.sample_max_new_tokens,
            num_samples: 1,
            temperature: 0.0,
            stop_ids,
            ..GenerateOptions::default()
        };
        let places = groups.iter().map(|group| files.place(group.index, group.line).to_string()).collect();
        Self { tokenizer, groups, places, options }
    }

    /// Answers of the model that training starts from, into the run's folder; a run that goes on keeps those it has.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn before(
        &self,
        out: &Path,
        (session, resume): (&mut dyn Session, bool),
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let is_there = || {
            let samples = Samples::read(out)?;
            Some(samples.prompts.len() == self.groups.len() && samples.max_new_tokens == self.options.max_new_tokens)
        };
        if self.groups.is_empty() || (resume && is_there().unwrap_or(false)) {
            return Ok(());
        }
        let answers = self.answers(session, observer)?;
        let prompts = self.groups.iter().zip(&self.places).zip(answers).map(|((group, place), before)| {
            let best = group.responses.iter().rev().max_by(|a, b| a.reward.total_cmp(&b.reward));
            let best = best.map(|response| Ok::<_, TrainError>((self.text(&response.ids, true)?, response.reward)));
            let (best, reward) = best.transpose()?.unwrap_or_default();
            let prompt = self.text(&group.prompt_ids, false)?;
            Ok(Sample { location: place.clone(), prompt, best, reward, before, after: None })
        });
        let prompts = prompts.collect::<Result<_, TrainError>>()?;
        Ok(Samples { max_new_tokens: self.options.max_new_tokens, prompts }.write(out)?)
    }

    /// Answers of the trained model, beside those from before.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn after(
        &self,
        out: &Path,
        session: &mut dyn Session,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let Some(mut samples) = Samples::read(out).filter(|_| !self.groups.is_empty()) else { return Ok(()) };
        let answers = self.answers(session, observer)?;
        for (sample, answer) in samples.prompts.iter_mut().zip(answers) {
            sample.after = Some(answer);
        }
        Ok(samples.write(out)?)
    }

    /// One prompt after the other: together their tokens might not fit into memory.
    fn answers(&self, session: &mut dyn Session, observer: &mut dyn Observer) -> Result<Vec<String>, TrainError> {
        observer.stage("answering sample prompts", Some(self.groups.len() as u64));
        let mut answers = Vec::with_capacity(self.groups.len());
        for group in &self.groups {
            // Some rotations are not defined beyond a length, which the data keeps to and an answer might not.
            let limit = session.config().longest_sequence().unwrap_or(usize::MAX);
            let room = limit.saturating_sub(group.prompt_ids.len());
            let options =
                GenerateOptions { max_new_tokens: self.options.max_new_tokens.min(room), ..self.options.clone() };
            let generated = session.generate(std::slice::from_ref(&group.prompt_ids), &options, &mut |_| {})?;
            let ids = generated.into_iter().flatten().next().unwrap_or_default();
            answers.push(self.text(&ids, true)?);
            observer.advance(1);
        }
        observer.finish();
        Ok(answers)
    }

    fn text(&self, ids: &[u32], skip_special: bool) -> Result<String, TrainError> {
        Ok(self.tokenizer.decode(ids, skip_special)?)
    }
}
