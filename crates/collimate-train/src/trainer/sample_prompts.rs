//! The model's answers to a few prompts before and after training, for the report.

use std::path::PathBuf;

use collimate_model::GenerateOptions;
use collimate_recipe::Recipe;
use collimate_report::{Sample, Samples};
use collimate_text::{TextTokenizer, TokenizedGroup};

use crate::dataset::DataSet;
use crate::error::TrainError;
use crate::session::Session;
use collimate_progress::Observer;

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
}

impl<'a> SamplePrompts<'a> {
    /// Takes as many of the first prompts of `data` as the recipe asks for.
    pub(super) fn new(recipe: &Recipe, tokenizer: &'a TextTokenizer, data: &DataSet) -> Self {
        let groups = data.groups[..recipe.sample_prompts.min(data.groups.len())].to_vec();
        // An answer ends like the data's responses, at the end of a turn for example.
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
        let locations = groups.iter().map(|group| data.location(group)).collect();
        Self { tokenizer, groups, locations, options, folder: recipe.output_dir.clone() }
    }

    /// Writes the answers of the initial model; a resumed run keeps existing ones.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn before(
        &self,
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
        let answers = self.answers(session, observer)?;
        let prompts = self.groups.iter().zip(&self.locations).zip(answers).map(|((group, location), before)| {
            let best = group.responses.iter().rev().max_by(|a, b| a.reward.total_cmp(&b.reward));
            let best = best.map(|response| Ok::<_, TrainError>((self.text(&response.ids, true)?, response.reward)));
            let (best, reward) = best.transpose()?.unwrap_or_default();
            let prompt = self.text(&group.prompt_ids, false)?;
            Ok(Sample { location: location.clone(), prompt, best, reward, before, after: None })
        });
        let prompts = prompts.collect::<Result<_, TrainError>>()?;
        Ok(Samples { max_new_tokens: self.options.max_new_tokens, prompts }.write(&self.folder)?)
    }

    /// Adds the answers of the trained model.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn after(&self, session: &mut dyn Session, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let Some(mut samples) = Samples::read(&self.folder).filter(|_| !self.groups.is_empty()) else { return Ok(()) };
        let answers = self.answers(session, observer)?;
        for (sample, answer) in samples.prompts.iter_mut().zip(answers) {
            sample.after = Some(answer);
        }
        Ok(samples.write(&self.folder)?)
    }

    /// Answers one prompt at a time: together their tokens might not fit into memory.
    fn answers(&self, session: &mut dyn Session, observer: &mut dyn Observer) -> Result<Vec<String>, TrainError> {
        observer.stage("answering sample prompts", Some(self.groups.len() as u64));
        let mut answers = Vec::with_capacity(self.groups.len());
        for group in &self.groups {
            // Some rotary embeddings are undefined beyond a length that an answer, unlike the data, might exceed.
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
