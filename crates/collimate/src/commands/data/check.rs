//! `collimate data check`: reads every row and names every error.

use std::path::PathBuf;

use collimate_data::{DataFiles, GroupReader, LabelConflicts, PromptGroup, counted};
use collimate_text::{TextChecks, TextError, TokenizeCounts, open_images, tokenize_checked};

use crate::commands::by_recipe::{Given, Reading};
use crate::commands::data_options::{DataOptions, LengthOptions, in_files};
use crate::error::CliError;
use crate::io::Io;

/// Maximum number of errors to show; the rest are only counted.
const MOST_SHOWN: usize = 20;

/// Read every row and report what is wrong
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  collimate data check rewards.jsonl --model models/base --max-length 1024")]
pub(crate) struct Args {
    /// Files of groups, folders or patterns
    #[arg(value_name = "FILE", required_unless_present = "recipe")]
    files: Vec<PathBuf>,
    /// Recipe whose data, model, chat template, lengths and rules for rows apply where no option says otherwise
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Model folder; tokenizes as training would, and counts what is truncated
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    #[command(flatten)]
    read: DataOptions,
    #[command(flatten)]
    lengths: LengthOptions,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        let Self { files, recipe, model, read, lengths } = self;
        let Reading { files, read, tokenizer, mut options } =
            Given { recipe, files, model, read, lengths }.resolve(2, io)?;
        let mut reader = read.open(&files, 2, io)?;
        let conflicts = read.label_conflicts;
        if reader.is_demonstrations() {
            reader.accept_single_responses();
            options.min_responses = 1;
        }
        let mut counts = TokenizeCounts::default();
        let mut num_errors = 0;
        let mut example = None;
        while let Some(group) = reader.next() {
            let checked = group.map_err(CliError::from).and_then(|group| {
                if tokenizer.is_none() {
                    open_images(&group).map_err(|error| in_files(reader.files(), error))?;
                }
                if let Some(tokenizer) = &tokenizer {
                    match tokenize_checked(&group, tokenizer, &options) {
                        Ok((tokenized, checks)) => counts.keep(&tokenized, checks),
                        Err(TextError::Unusable { reason, .. }) if options.skips(&reason) => counts.skip(&reason),
                        Err(error) => return Err(in_files(reader.files(), error)),
                    }
                }
                Ok(group)
            });
            match checked {
                Ok(group) => example = example.or(Some(group)),
                Err(error) => {
                    num_errors += 1;
                    if num_errors <= MOST_SHOWN {
                        io.note(format_args!("error: {error}"));
                    }
                }
            }
        }
        io.line(format_args!("{}", reader.describe()))?;
        if let Some(group) = &example {
            show_direction(group, io)?;
        }
        let read = reader.counts();
        io.line(format_args!(
            "{}, {}, {}",
            counted(read.num_rows, "row"),
            counted(read.num_groups, "group"),
            counted(num_errors, "error")
        ))?;
        show_counts(&reader, conflicts, io)?;
        if tokenizer.is_some() {
            show_tokens(&counts, io)?;
            show_texts(&counts.texts, reader.files(), io)?;
        }
        match num_errors {
            0 => Ok(()),
            count => Err(CliError::usage(format!("{}: rows that cannot be used: {count}", listed(&files)))),
        }
    }
}

/// Says what was left out, and where labels and scores disagree.
fn show_counts(reader: &GroupReader, conflicts: LabelConflicts, io: &mut Io<'_>) -> Result<(), CliError> {
    let counts = reader.counts();
    for (reason, count) in &counts.skipped {
        io.line(format_args!("skipped: {count} × {reason}"))?;
    }
    for line in counts.labels.lines(conflicts) {
        io.line(format_args!("{line}"))?;
    }
    for (reason, count) in &counts.left_out {
        io.line(format_args!("responses left out: {count} × {reason}"))?;
    }
    if reader.is_demonstrations() {
        io.line(format_args!(
            "each row has one response and no reward: for objectives that compare nothing, such as sft"
        ))?;
    }
    Ok(())
}

/// The files as the user named them.
pub(super) fn listed(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Shows the best and the worst response of a group, so that a wrong score direction is noticed.
fn show_direction(group: &PromptGroup, io: &mut Io<'_>) -> Result<(), CliError> {
    let by_reward = |a: &&collimate_data::Response, b: &&collimate_data::Response| a.reward.total_cmp(&b.reward);
    // Among ties the first is the best and the last the worst.
    let best = group.responses.iter().rev().max_by(by_reward);
    let worst = group.responses.iter().rev().min_by(by_reward);
    for (name, response) in [("best", best), ("worst", worst)] {
        if let Some(response) = response {
            let start: String = response.content.chars().take(70).flat_map(char::escape_debug).collect();
            io.line(format_args!("  line {}, {name} (reward {}): {start}", group.line, response.reward))?;
        }
    }
    Ok(())
}

/// Shows whether the tokens say what the texts say.
pub(super) fn show_texts(checks: &TextChecks, files: &DataFiles, io: &mut Io<'_>) -> Result<(), CliError> {
    io.line(format_args!("{}", checks.summary()))?;
    let warnings = checks.warnings(&|index, line| files.location(index, line));
    warnings.iter().try_for_each(|warning| io.line(format_args!("{warning}")))
}

fn show_tokens(counts: &TokenizeCounts, io: &mut Io<'_>) -> Result<(), CliError> {
    io.line(format_args!(
        "{}, {} in {}",
        counted(counts.prompt_tokens, "prompt token"),
        counted(counts.response_tokens, "response token"),
        counted(counts.responses, "response")
    ))?;
    io.line(format_args!(
        "cut: {} (by {}), {} (by {})",
        counted(counts.cut_prompts, "prompt"),
        counted(counts.cut_prompt_tokens, "token"),
        counted(counts.cut_responses, "response"),
        counted(counts.cut_response_tokens, "token")
    ))?;
    io.line(format_args!(
        "identical to an earlier response of their group: {}; all identical: {}",
        counted(counts.identical_responses, "response"),
        counted(counts.identical_groups, "group")
    ))?;
    counts.skipped.iter().try_for_each(|(reason, count)| io.line(format_args!("skipped: {count} × {reason}")))
}
