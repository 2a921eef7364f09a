//! Options for reading data, shared by several verbs.

use std::path::PathBuf;
use std::str::FromStr;

use collimate_data::{
    DataError, DataFiles, DataSource, FieldMap, FieldPath, GroupReader, LabelConflicts, Layout, LoadOptions,
    PromptGroup, ScoreDirection,
};
use collimate_rewards::{Normalize, RewardFrom};
use collimate_text::{TextError, TokenizeOptions};

use crate::error::CliError;
use crate::inputs::files_of;
use crate::io::Io;

/// How to read files of groups.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DataOptions {
    /// Layout of the rows [default: recognized by their fields]
    #[arg(long, value_name = "NAME", visible_alias = "from", value_parser = parse::<Layout>)]
    pub(crate) layout: Option<Layout>,
    #[command(flatten)]
    pub(crate) fields: FieldOptions,
    /// Where rewards come from: field[:NAME], rank, ndcg, pairs, plackett_luce, elo, aspects[:NAME=WEIGHT,…]
    #[arg(long, value_name = "RULE", value_parser = parse::<RewardFrom>)]
    pub(crate) reward_from: Option<RewardFrom>,
    /// Whether higher numbers in the file are better [default: as the layout declares]
    #[arg(long, value_name = "true|false")]
    pub(crate) higher_is_better: Option<bool>,
    /// Normalization of each prompt's rewards: z_score, min_max, clip:LOW,HIGH
    #[arg(long, value_name = "RULE", value_parser = parse::<Normalize>)]
    pub(crate) normalize: Option<Normalize>,
    /// What decides where a label contradicts the scores: label (scores are exchanged), scores, or drop (rows are left out)
    #[arg(long, value_name = "WHAT", default_value_t, value_parser = parse::<LabelConflicts>)]
    pub(crate) label_conflicts: LabelConflicts,
    /// Ignore a field of rows, messages and responses; may be repeated
    #[arg(long = "ignore-field", value_name = "NAME")]
    pub(crate) ignore_fields: Vec<String>,
    /// Leave out responses that cannot be used, and groups of which too few remain; count them instead of refusing the file
    #[arg(long)]
    pub(crate) skip_unusable: bool,
    /// Read at most this many groups
    #[arg(long, value_name = "N")]
    pub(crate) max_samples: Option<usize>,
}

/// Which fields of rows in no known layout are read.
///
/// A field is a path such as answers.0.text; * stands for all elements of a list, as in answers.*.text.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FieldOptions {
    /// Field of the prompt, text or messages, in rows of no known layout
    #[arg(long, value_name = "PATH", value_parser = parse::<FieldPath>, conflicts_with = "layout")]
    prompt_field: Option<FieldPath>,
    /// Field of a response or of a list of them, such as answers.*.text; may be repeated. If each row has one, rows with the
    /// same prompt are one group
    #[arg(long, value_name = "PATH", value_parser = parse::<FieldPath>, conflicts_with = "layout")]
    response_field: Vec<FieldPath>,
    /// Field of a reward or of a list of them, in the order of the responses; may be repeated
    #[arg(long, value_name = "PATH", value_parser = parse::<FieldPath>, conflicts_with = "layout")]
    reward_field: Vec<FieldPath>,
    /// Field of the better response of a pair
    #[arg(long, value_name = "PATH", value_parser = parse::<FieldPath>, conflicts_with = "layout")]
    chosen_field: Option<FieldPath>,
    /// Field of the worse response of a pair, or of a list of them; may be repeated
    #[arg(long, value_name = "PATH", value_parser = parse::<FieldPath>, conflicts_with = "layout")]
    rejected_field: Vec<FieldPath>,
}

impl FieldOptions {
    /// The fields, if any is given.
    fn resolve(&self) -> Result<Option<FieldMap>, CliError> {
        let fields = FieldMap {
            prompt: self.prompt_field.clone(),
            responses: self.response_field.clone(),
            rewards: self.reward_field.clone(),
            chosen: self.chosen_field.clone(),
            rejected: self.rejected_field.clone(),
        };
        if fields == FieldMap::default() {
            return Ok(None);
        }
        fields.check().map_err(CliError::usage)?;
        Ok(Some(fields))
    }
}

impl DataOptions {
    /// Takes from a recipe what these options leave out.
    pub(crate) fn fill_in(&mut self, recipe: &LoadOptions) {
        self.layout = self.layout.or(recipe.layout);
        self.reward_from = self.reward_from.take().or_else(|| recipe.reward_from.clone());
        let higher = recipe.direction.map(|direction| direction == ScoreDirection::HigherIsBetter);
        self.higher_is_better = self.higher_is_better.or(higher);
        self.normalize = self.normalize.or(recipe.normalize);
        if self.label_conflicts == LabelConflicts::default() {
            self.label_conflicts = recipe.label_conflicts;
        }
        self.ignore_fields.extend_from_slice(&recipe.ignore_fields);
        self.skip_unusable |= recipe.skip_unusable;
    }

    /// Opens files, folders or patterns; groups need at least `min_responses` responses.
    pub(crate) fn open(
        &self,
        names: &[PathBuf],
        min_responses: usize,
        io: &mut Io<'_>,
    ) -> Result<GroupReader, CliError> {
        self.open_with(files_of(names, io)?, min_responses, true)
    }

    /// Opens files of groups whose responses need no rewards.
    pub(crate) fn open_unrewarded(&self, names: &[PathBuf], io: &mut Io<'_>) -> Result<GroupReader, CliError> {
        self.open_with(files_of(names, io)?, 1, false)
    }

    fn open_with(
        &self,
        files: Vec<PathBuf>,
        min_responses: usize,
        needs_rewards: bool,
    ) -> Result<GroupReader, CliError> {
        let direction = self.higher_is_better.map(|higher| match higher {
            true => ScoreDirection::HigherIsBetter,
            false => ScoreDirection::LowerIsBetter,
        });
        let options = LoadOptions {
            layout: self.layout,
            fields: self.fields.resolve()?,
            direction,
            reward_from: self.reward_from.clone(),
            normalize: self.normalize,
            skip_unusable: self.skip_unusable,
            max_samples: self.max_samples,
            min_responses,
            most_responses: None,
            label_conflicts: self.label_conflicts,
            ignore_fields: self.ignore_fields.clone(),
            needs_rewards,
            needs_good_response: false,
        };
        Ok(DataSource::open_all(files, &options)?)
    }
}

/// How to truncate groups.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LengthOptions {
    /// Longest sequence in tokens, prompt and response [default: no limit]
    #[arg(long, value_name = "N")]
    pub(crate) max_length: Option<usize>,
    /// Longest prompt in tokens; longer ones keep their end
    #[arg(long, value_name = "N")]
    pub(crate) max_prompt_length: Option<usize>,
}

impl LengthOptions {
    /// Options for tokenizing groups of at least `min_responses` responses.
    pub(crate) fn resolve(&self, data: &DataOptions, min_responses: usize) -> Result<TokenizeOptions, CliError> {
        for (name, value) in [("--max-length", self.max_length), ("--max-prompt-length", self.max_prompt_length)] {
            if value == Some(0) {
                return Err(CliError::usage(format!("{name} must be at least 1")));
            }
        }
        Ok(TokenizeOptions {
            max_length: self.max_length,
            max_prompt_length: self.max_prompt_length,
            max_response_length: None,
            skip_unusable: data.skip_unusable,
            skip_long_prompts: false,
            min_responses,
        })
    }
}

/// Adds the file to an error that knows only its line.
pub(crate) fn in_files(files: &DataFiles, error: TextError) -> CliError {
    match error {
        TextError::Unusable { index, line, reason } => {
            DataError::Row { path: files.path(index).to_owned(), line, problem: reason.to_string() }.into()
        }
        error => error.into(),
    }
}

/// Reads up to `count` more groups.
pub(crate) fn take(reader: &mut GroupReader, count: usize) -> Result<Vec<PromptGroup>, DataError> {
    reader.by_ref().take(count).collect()
}

/// A clap value parser that keeps the type's own message.
pub(crate) fn parse<T: FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}
