//! `collimate data stats`: statistics of a data set.

use std::path::PathBuf;

use collimate_data::{PromptGroup, counted};
use collimate_rewards::alpha_for_entropy;
use collimate_stats::DataStats;
use collimate_text::{TextError, TokenizedGroup, open_images, tokenize_group};
use serde_json::json;

use crate::commands::by_recipe::{Given, Reading};
use crate::commands::data_options::{DataOptions, LengthOptions, in_files};
use crate::error::CliError;
use crate::io::Io;

/// Describe data: responses, ties, lengths, truncation, length against reward, entropy of the reward weights
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  collimate data stats rewards.jsonl --model models/base --alpha 0.33")]
pub(crate) struct Args {
    /// Files of groups, folders or patterns
    #[arg(value_name = "FILE", required_unless_present = "recipe")]
    files: Vec<PathBuf>,
    /// Recipe whose data, model, chat template, lengths and rules for rows apply where no option says otherwise
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Model folder; counts tokens instead of characters, and truncated groups
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Reward temperature α in the weights softmax(reward/α)
    #[arg(long, value_name = "A", default_value_t = 0.33)]
    alpha: f64,
    /// Also find the median α for which a prompt's weights have this entropy, in nats
    #[arg(long, value_name = "NATS")]
    target_entropy: Option<f64>,
    #[command(flatten)]
    read: DataOptions,
    #[command(flatten)]
    lengths: LengthOptions,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return Err(CliError::usage("--alpha must be above 0"));
        }
        if self.target_entropy.is_some_and(|target| !(target > 0.0 && target.is_finite())) {
            return Err(CliError::usage("--target-entropy must be above 0"));
        }
        let Self { files, recipe, model, read, lengths, .. } = &self;
        let (read, lengths) = (read.clone(), lengths.clone());
        let given = Given { recipe: recipe.clone(), files: files.clone(), model: model.clone(), read, lengths };
        let Reading { files, read, tokenizer, mut options } = given.resolve(2, io)?;
        let mut reader = read.open(&files, 2, io)?;
        if reader.is_demonstrations() {
            reader.accept_single_responses();
            options.min_responses = 1;
        }
        let mut stats = DataStats::new(Some(self.alpha));
        let mut alphas = Vec::new();
        while let Some(group) = reader.next() {
            let group = group?;
            if let Some(tokenizer) = &tokenizer {
                match tokenize_group(&group, tokenizer, &options) {
                    Ok(tokenized) => add(&mut stats, &group, &tokenized),
                    Err(TextError::Unusable { reason, .. }) if options.skips(&reason) => {
                        *stats.unusable.entry(reason.kind().to_owned()).or_default() += 1;
                        continue;
                    }
                    Err(error) => return Err(in_files(reader.files(), error)),
                }
            } else {
                let sizes = open_images(&group).map_err(|error| in_files(reader.files(), error))?;
                sizes.into_iter().for_each(|size| stats.add_image(size, None));
                stats.add(&group);
            }
            alphas.extend(self.target_entropy.and_then(|target| alpha_of(&group, target)));
        }
        for (reason, count) in &reader.counts().skipped {
            *stats.unusable.entry(reason.to_string()).or_default() += count;
        }
        let summary = stats.summary();
        alphas.sort_by(f64::total_cmp);
        let median = alphas.get(alphas.len() / 2).copied();
        if self.json {
            let mut fields = json!(summary);
            if self.target_entropy.is_some() {
                fields["median_alpha_for_target_entropy"] = json!(median);
            }
            return io.json(&fields);
        }
        io.line(format_args!("{}\n{}", reader.describe(), summary.to_string().trim_end()))?;
        match (self.target_entropy, median) {
            (None, _) => Ok(()),
            (Some(target), Some(alpha)) => io.line(format_args!(
                "α for an entropy of {target} nats: median {alpha:.6} over the {} where there is one",
                counted(alphas.len(), "prompt")
            )),
            (Some(target), None) => io.line(format_args!("no prompt's weights can have an entropy of {target} nats")),
        }
    }
}

fn add(stats: &mut DataStats, group: &PromptGroup, tokenized: &TokenizedGroup) {
    let lengths: Vec<usize> = tokenized.responses.iter().map(|response| response.ids.len()).collect();
    stats.add_with_tokens(group, tokenized.prompt_ids.len(), &lengths);
    for placed in &tokenized.images {
        stats.add_image(placed.image.size(), Some(placed.tokens.len()));
    }
    stats.num_prompts_cut += usize::from(tokenized.num_prompt_cut > 0);
    stats.num_responses_cut += tokenized.responses.iter().filter(|response| response.num_cut > 0).count();
}

fn alpha_of(group: &PromptGroup, target: f64) -> Option<f64> {
    let rewards: Vec<f64> = group.responses.iter().map(|response| response.reward).collect();
    alpha_for_entropy(&rewards, target)
}
