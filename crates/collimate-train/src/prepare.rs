//! Loads and tokenizes a recipe's data before any compute.

use std::path::{Path, PathBuf};

use collimate_data::{
    DataFiles, Duplicates, LoadOptions, MixOptions, MixedGroups, Prompt, PromptGroup, ScoreDirection, hold_out,
    read_mix,
};
use collimate_recipe::{DataSources, Recipe};
use collimate_text::{
    ChatDefaults, TextError, TextTokenizer, TokenizeOptions, TokenizedGroup, TokenizerChanges, text_prompt_note,
    tokenize_all_with,
};

use crate::error::TrainError;
use crate::most_responses::most_responses;
use collimate_progress::Observer;

/// Tokenized groups of one or several files.
#[derive(Debug)]
pub struct PreparedData {
    /// In the order of the files and their lines.
    pub groups: Vec<TokenizedGroup>,
    /// The files that the groups come from.
    pub files: DataFiles,
    /// Lines for the log: what was found, truncated and left out.
    pub notes: Vec<String>,
}

/// Loads and tokenizes a file as the recipe says.
///
/// # Errors
/// A row cannot be used (the error names file, line and field), or a file has no usable groups.
pub fn prepare(
    recipe: &Recipe,
    path: &Path,
    tokenizer: &TextTokenizer,
    min_responses: usize,
    observer: &mut dyn Observer,
) -> Result<PreparedData, TrainError> {
    let rows = DataRows::read(recipe, &path.to_owned().into(), min_responses, observer)?;
    rows.tokenize(recipe, tokenizer, min_responses, observer)
}

/// What the recipe changes about the model's tokenizer.
pub fn tokenizer_changes(recipe: &Recipe) -> TokenizerChanges {
    TokenizerChanges {
        chat_template: recipe.chat_template.clone(),
        chat_template_path: recipe.chat_template_path.clone(),
        eos_token: recipe.eos_token.clone(),
        defaults: ChatDefaults {
            system_prompt: recipe.system_prompt.clone(),
            kwargs: recipe.chat_template_kwargs.get().clone(),
        },
    }
}

/// Groups as text.
#[derive(Debug)]
pub(crate) struct DataRows {
    /// Names of the files, for messages.
    name: String,
    groups: Vec<PromptGroup>,
    files: DataFiles,
    /// Lines for the log: what was read.
    notes: Vec<String>,
    num_skipped: usize,
}

impl DataRows {
    /// Reads training data with the recipe's fractions, filters and limit. Needs no tokenizer.
    pub(crate) fn read(
        recipe: &Recipe,
        sources: &DataSources,
        min_responses: usize,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let options = MixOptions {
            load: load_options(recipe, min_responses)?,
            min_reward_gap: recipe.min_reward_gap,
            drop_ties: recipe.drop_ties,
            max_samples: recipe.max_samples,
            seed: recipe.seed,
        };
        Self::mix(sources, &options, observer)
    }

    /// Reads evaluation data with the fractions of its files, but without the training data's filters.
    pub(crate) fn read_evaluation(
        recipe: &Recipe,
        sources: &DataSources,
        min_responses: usize,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let load = load_options(recipe, min_responses)?;
        Self::mix(sources, &MixOptions { load, seed: recipe.seed, ..MixOptions::default() }, observer)
    }

    fn mix(sources: &DataSources, options: &MixOptions, observer: &mut dyn Observer) -> Result<Self, TrainError> {
        let mut is_reading = false;
        let mixed = read_mix(sources.parts(), options, &mut |path, num_groups| {
            if num_groups == 0 {
                if std::mem::replace(&mut is_reading, true) {
                    observer.finish();
                }
                observer.stage(&format!("reading {}", path.display()), None);
            } else {
                observer.advance(num_groups as u64);
            }
        })?;
        observer.finish();
        if mixed.groups.is_empty() {
            return Err(TrainError::NoGroups { path: PathBuf::from(sources.to_string()) });
        }
        let notes = notes_of(&mixed, options);
        let num_skipped = mixed.num_skipped();
        Ok(Self { name: sources.to_string(), groups: mixed.groups, files: mixed.files, notes, num_skipped })
    }

    /// Splits off the fraction that the recipe holds out; `None` if it holds out nothing.
    ///
    /// # Errors
    /// One side would be empty.
    pub(crate) fn hold_out(&mut self, recipe: &Recipe) -> Result<Option<Self>, TrainError> {
        if recipe.eval_fraction == 0.0 {
            return Ok(None);
        }
        let share = match recipe.eval_fraction {
            count if count > 1.0 => (count / self.groups.len().max(1) as f64).min(1.0),
            share => share,
        };
        let (kept, held_out) = hold_out(std::mem::take(&mut self.groups), share, recipe.seed);
        if kept.is_empty() || held_out.is_empty() {
            let message = format!("{} has too few prompts to hold some out", self.name);
            return Err(TrainError::RecipeValue { key: "eval_fraction", message });
        }
        self.groups = kept;
        let notes = vec![format!("held out of {} to evaluate on: eval_fraction {}", self.name, recipe.eval_fraction)];
        Ok(Some(Self { name: self.name.clone(), groups: held_out, files: self.files.clone(), notes, num_skipped: 0 }))
    }

    /// The groups.
    pub(crate) fn groups(&self) -> &[PromptGroup] {
        &self.groups
    }

    /// The files they come from.
    pub(crate) fn files(&self) -> &DataFiles {
        &self.files
    }

    /// Tokenizes all groups, on all cores.
    pub(crate) fn tokenize(
        self,
        recipe: &Recipe,
        tokenizer: &TextTokenizer,
        min_responses: usize,
        observer: &mut dyn Observer,
    ) -> Result<PreparedData, TrainError> {
        let options = TokenizeOptions {
            max_length: recipe.max_length,
            max_prompt_length: recipe.max_prompt_length,
            max_response_length: recipe.max_completion_length,
            skip_unusable: recipe.skip_unusable,
            skip_long_prompts: recipe.skip_long_prompts,
            min_responses,
        };
        let text_prompts = self.text_prompts(recipe, tokenizer)?;
        observer.stage(&format!("tokenizing {}", self.name), Some(self.groups.len() as u64));
        let advance = &mut |num_groups: usize| observer.advance(num_groups as u64);
        let tokenized = tokenize_all_with(&self.groups, tokenizer, &options, advance);
        observer.finish();
        let (groups, counts) = tokenized.map_err(|error| with_path(&self.files, error))?;
        if groups.is_empty() {
            return Err(TrainError::NoGroups { path: PathBuf::from(self.name) });
        }
        let skipped = self.num_skipped + counts.num_skipped();
        let mut notes = self.notes;
        // The rest is in the lines before the first step.
        if skipped > 0 {
            notes.push(format!("  {skipped} groups left out as unusable"));
        }
        notes.extend(text_prompts);
        notes.push(format!("  {}", counts.texts.summary()));
        notes.extend(counts.texts.warnings(&|index, line| self.files.place(index, line)));
        Ok(PreparedData { groups, files: self.files, notes })
    }

    /// A line about prompts that are text although the model has a chat template, if there are any.
    ///
    /// # Errors
    /// The recipe has a system prompt, which only a conversation can begin with.
    fn text_prompts(&self, recipe: &Recipe, tokenizer: &TextTokenizer) -> Result<Option<String>, TrainError> {
        let is_text = |group: &&PromptGroup| matches!(group.prompt, Prompt::Text(_));
        let Some(first) = self.groups.iter().find(is_text) else { return Ok(None) };
        if recipe.system_prompt.is_some() {
            let place = self.files.place(first.index, first.line);
            let message = format!("is for conversations, but the prompt of {place} is text");
            return Err(TrainError::RecipeValue { key: "system_prompt", message });
        }
        let count = self.groups.iter().filter(is_text).count();
        Ok(tokenizer.chat_template().map(|_| format!("  {}", text_prompt_note(count))))
    }
}

/// One line per file, then lines about all of them.
fn notes_of(mixed: &MixedGroups, options: &MixOptions) -> Vec<String> {
    let mut notes = Vec::new();
    for report in &mixed.reports {
        notes.push(report.to_string());
        notes.extend(report.labels.lines(options.load.label_conflicts).into_iter().map(|line| format!("  {line}")));
    }
    if let Some(limit) = options.max_samples.filter(|_| mixed.num_over_limit > 0) {
        notes.push(format!("  {} groups left out: max_samples {limit}", mixed.num_over_limit));
    }
    let duplicates = Duplicates::find(&mixed.groups);
    if let Some((repeated, earlier)) = duplicates.first {
        let location = |i: usize| mixed.files.place(mixed.groups[i].index, mixed.groups[i].line);
        let (count, repeated, earlier) = (duplicates.count, location(repeated), location(earlier));
        notes.push(format!(
            "  {count} duplicates of an earlier prompt with its responses, the first {repeated} of {earlier}"
        ));
    }
    notes
}

fn with_path(files: &DataFiles, error: TextError) -> TrainError {
    match error {
        TextError::Unusable { index, line, reason } => {
            TrainError::Unusable { path: files.path(index).to_owned(), line, reason: reason.to_string() }
        }
        error => error.into(),
    }
}

/// The recipe's options for reading a file of groups.
///
/// # Errors
/// An unknown layout, reward rule or normalization.
pub fn load_options(recipe: &Recipe, min_responses: usize) -> Result<LoadOptions, TrainError> {
    fn parsed<T: std::str::FromStr>(key: &'static str, text: Option<&String>) -> Result<Option<T>, TrainError>
    where
        T::Err: std::fmt::Display,
    {
        let parse = |text: &String| {
            text.parse().map_err(|error: T::Err| TrainError::RecipeValue { key, message: error.to_string() })
        };
        text.map(parse).transpose()
    }
    Ok(LoadOptions {
        layout: parsed("data_layout", recipe.data_layout.as_ref())?,
        fields: None,
        direction: recipe.higher_is_better.map(|higher| match higher {
            true => ScoreDirection::HigherIsBetter,
            false => ScoreDirection::LowerIsBetter,
        }),
        reward_from: parsed("reward_from", recipe.reward_from.as_ref())?,
        normalize: parsed("normalize", recipe.normalize.as_ref())?,
        skip_unusable: recipe.skip_unusable,
        max_samples: None,
        min_responses,
        most_responses: Some(most_responses(recipe)?),
        label_conflicts: recipe.label_conflicts,
        ignore_fields: recipe.ignore_fields.get().to_vec(),
        needs_rewards: true,
        // An objective of one response imitates the best one.
        needs_good_response: min_responses < 2,
    })
}

/// The order in which an epoch visits the groups. Depends on seed and epoch alone.
pub(crate) fn epoch_order(num_groups: usize, shuffle: bool, seed: u64, epoch: usize) -> Vec<usize> {
    use rand::SeedableRng;
    use rand::seq::SliceRandom;
    let mut order: Vec<usize> = (0..num_groups).collect();
    if shuffle {
        let mut key = blake3::Hasher::new();
        key.update(b"shuffle").update(&seed.to_le_bytes()).update(&(epoch as u64).to_le_bytes());
        order.shuffle(&mut rand_chacha::ChaCha8Rng::from_seed(*key.finalize().as_bytes()));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_visits_every_group_once_in_an_order_of_its_own() {
        let first = epoch_order(50, true, 42, 0);
        assert_eq!(first, epoch_order(50, true, 42, 0));
        assert_ne!(first, epoch_order(50, true, 42, 1));
        assert_ne!(first, epoch_order(50, true, 43, 0));
        let mut sorted = first;
        sorted.sort_unstable();
        assert_eq!(sorted, epoch_order(50, false, 42, 0));
    }
}
