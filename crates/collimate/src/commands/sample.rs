//! `collimate sample`: draws K responses per prompt.

use std::path::PathBuf;

use collimate_rounds::{Draws, PromptRows};

use super::model_options::{ModelOptions, SamplingOptions, open_model};
use super::overwrite::Overwrite;
use crate::error::CliError;
use crate::inputs::open_rows;
use crate::io::{Io, Rows, scratch_beside};

/// Draw several responses to each prompt of a file
///
/// Reads rows with "prompt" (text or messages) and writes each with "responses": [{"content", "token_ids"}], keeping all other
/// fields. An answer ends where the chat template or an EOS ends it; "token_ids" are the tokens that were drawn, which
/// training then uses.
/// `collimate reward` adds a "reward" to each response; then the file can be trained on.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  collimate sample --model models/base --data prompts.jsonl --num-responses 8 --output samples.jsonl"
)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelOptions,
    /// File of prompts, JSON Lines or Parquet; or a folder, a pattern, or - for standard input
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// File to write; - for standard output
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    overwrite: Overwrite,
    /// Responses per prompt
    #[arg(long, short = 'n', value_name = "K", default_value_t = 8)]
    num_responses: usize,
    /// Sampling temperature; 0 decodes greedily
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f64,
    #[command(flatten)]
    sampling: SamplingOptions,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
}

impl Args {
    pub(crate) fn run(mut self, io: &mut Io<'_>) -> Result<(), CliError> {
        if self.num_responses == 0 {
            return Err(CliError::usage("--num-responses must be at least 1"));
        }
        self.overwrite.check_all(&self.output, std::slice::from_ref(&self.data), &self.model)?;
        self.model.locate(io)?;
        let checked = self.model.check()?;
        let mut out = Rows::create(&self.output)?;
        let tokenizer = self.model.tokenizer(io)?;
        let options = self.sampling.resolve(self.temperature, self.num_responses, &tokenizer)?;
        let (name, rows) = open_rows(&self.data, io)?;
        let prompts = PromptRows::read(&name, rows, &tokenizer, &scratch_beside(&self.output))?;
        let mut session = open_model(checked, io)?;
        {
            let mut observer = io.observer(self.quiet);
            observer.stage("sampling", Some(prompts.num_prompts() as u64));
            let mut draws = Draws::new(&prompts, &tokenizer, options, 0..prompts.num_prompts());
            while let Some(rows) = draws.next(session.as_mut())? {
                observer.advance(rows.len() as u64);
                rows.iter().try_for_each(|row| out.push(row))?;
            }
            observer.finish();
        }
        out.commit(io)
    }
}
