//! `collimate data preview`: what the model sees and which tokens are scored.

use std::path::PathBuf;

use collimate_data::{Prompt, PromptGroup};
use collimate_text::{TextChecks, preview, text_prompt_note, tokenize_checked};

use super::check::show_texts;
use crate::commands::by_recipe::{Given, Reading};
use crate::commands::data_options::{DataOptions, LengthOptions, in_files, take};
use crate::error::CliError;
use crate::io::Io;

/// Most groups to show, which are in memory together.
const MAX_SHOWN: usize = 1000;

/// Show groups as the model sees them, with the tokens that are scored
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  collimate data preview rewards.jsonl --model models/base --num 2")]
pub(crate) struct Args {
    /// Files of groups, folders or patterns
    #[arg(value_name = "FILE", required_unless_present = "recipe")]
    files: Vec<PathBuf>,
    /// Recipe whose data, model, chat template, lengths and rules for rows apply where no option says otherwise
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Model folder with the tokenizer
    #[arg(long, value_name = "DIR", required_unless_present = "recipe")]
    model: Option<PathBuf>,
    /// Number of groups to show
    #[arg(long, value_name = "N", default_value_t = 1)]
    num: usize,
    #[command(flatten)]
    read: DataOptions,
    #[command(flatten)]
    lengths: LengthOptions,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        if self.num > MAX_SHOWN {
            return Err(CliError::usage(format!("--num must be at most {MAX_SHOWN}")));
        }
        let Self { files, recipe, model, num, read, lengths } = self;
        let Reading { files, read, tokenizer, options } =
            Given { recipe, files, model, read, lengths }.resolve(1, io)?;
        let tokenizer = tokenizer.ok_or_else(|| CliError::usage("the recipe names no model: give it with --model"))?;
        let mut reader = read.open(&files, 1, io)?;
        let groups = take(&mut reader, num)?;
        io.line(format_args!("{}", reader.describe()))?;
        let is_text = |group: &&PromptGroup| matches!(group.prompt, Prompt::Text(_));
        let num_texts = groups.iter().filter(is_text).count();
        if num_texts > 0 && tokenizer.chat_template().is_some() {
            io.line(format_args!("{}", text_prompt_note(num_texts)))?;
        }
        let mut checks = TextChecks::default();
        for group in &groups {
            let (tokenized, checked) =
                tokenize_checked(group, &tokenizer, &options).map_err(|error| in_files(reader.files(), error))?;
            checks.merge(checked);
            let shown = preview(&tokenized, &tokenizer, io.out_color)?;
            io.line(format_args!("\n{}", shown.trim_end()))?;
        }
        io.line(format_args!(""))?;
        show_texts(&checks, reader.files(), io)
    }
}
