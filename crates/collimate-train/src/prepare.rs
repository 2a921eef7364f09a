//! From a recipe to tokenized groups: loading, tokenizing, counting, all before any compute.

use std::path::{Path, PathBuf};

use collimate_data::{
    DataError, DataSource, LoadOptions, PromptGroup, ScoreDirection, TextTokenizer, TokenizeOptions, TokenizedGroup,
    tokenize_all_with,
};

use crate::error::TrainError;
use crate::progress::Observer;
use crate::recipe::Recipe;

/// Groups of a file, ready to be scored.
#[derive(Debug)]
pub struct PreparedData {
    /// The groups in the file's order.
    pub groups: Vec<TokenizedGroup>,
    /// What was found, cut and left out, in lines for people.
    pub notes: Vec<String>,
}

/// Loads and tokenizes a file as the recipe says.
///
/// # Errors
/// The first row that cannot be used, by file, line and field; a file without usable groups.
pub fn prepare(
    recipe: &Recipe,
    path: &Path,
    tokenizer: &TextTokenizer,
    min_responses: usize,
    observer: &mut dyn Observer,
) -> Result<PreparedData, TrainError> {
    DataRows::read(recipe, path, min_responses, observer)?.tokenize(recipe, tokenizer, min_responses, observer)
}

/// The groups of a file as text.
#[derive(Debug)]
pub(crate) struct DataRows {
    path: PathBuf,
    groups: Vec<PromptGroup>,
    /// What was read, in a line for people.
    description: String,
    num_skipped: usize,
}

impl DataRows {
    /// Reads a file as the recipe says; needs no tokenizer.
    pub(crate) fn read(
        recipe: &Recipe,
        path: &Path,
        min_responses: usize,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        observer.stage(&format!("reading {}", path.display()), None);
        let mut reader = DataSource::open(path, &load_options(recipe, min_responses)?)?;
        let mut groups: Vec<PromptGroup> = Vec::new();
        for group in reader.by_ref() {
            groups.push(group?);
            observer.advance(1);
        }
        observer.finish();
        if groups.is_empty() {
            return Err(TrainError::NoGroups { path: path.to_owned() });
        }
        let (description, num_skipped) = (reader.describe().to_string(), reader.counts().num_skipped());
        Ok(Self { path: path.to_owned(), groups, description, num_skipped })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes tokens of all groups, on all cores.
    pub(crate) fn tokenize(
        self,
        recipe: &Recipe,
        tokenizer: &TextTokenizer,
        min_responses: usize,
        observer: &mut dyn Observer,
    ) -> Result<PreparedData, TrainError> {
        let path = &self.path;
        let options = TokenizeOptions {
            max_length: Some(recipe.max_length),
            max_prompt_length: Some(recipe.max_prompt_length),
            skip_unusable: recipe.skip_unusable,
            min_responses,
        };
        observer.stage(&format!("tokenizing {}", path.display()), Some(self.groups.len() as u64));
        let advance = &mut |num_groups: usize| observer.advance(num_groups as u64);
        let tokenized = tokenize_all_with(&self.groups, tokenizer, &options, advance);
        observer.finish();
        let (groups, counts) = tokenized.map_err(|error| at_path(path, error))?;
        if groups.is_empty() {
            return Err(TrainError::NoGroups { path: path.clone() });
        }
        let skipped = self.num_skipped + counts.num_skipped();
        let notes = vec![
            format!("{}: {}", path.display(), self.description),
            format!(
                "  {} prompts, {} responses, {} prompt and {} response tokens; cut: {} prompts, {} responses; left out: {skipped}",
                counts.groups,
                counts.responses,
                counts.prompt_tokens,
                counts.response_tokens,
                counts.cut_prompts,
                counts.cut_responses,
            ),
        ];
        Ok(PreparedData { groups, notes })
    }
}

fn at_path(path: &Path, error: DataError) -> TrainError {
    match error {
        DataError::Unusable { line, reason } => {
            TrainError::Unusable { path: path.to_owned(), line, reason: reason.to_string() }
        }
        error => error.into(),
    }
}

/// What the recipe says about reading a file of groups.
///
/// # Errors
/// A layout, reward rule or normalisation that does not exist.
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
        direction: recipe.higher_is_better.map(|higher| match higher {
            true => ScoreDirection::HigherIsBetter,
            false => ScoreDirection::LowerIsBetter,
        }),
        reward_from: parsed("reward_from", recipe.reward_from.as_ref())?,
        normalize: parsed("normalize", recipe.normalize.as_ref())?,
        skip_unusable: recipe.skip_unusable,
        max_samples: None,
        min_responses,
        needs_rewards: true,
    })
}

/// The order in which an epoch visits the groups: a function of seed and epoch alone.
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
