//! `collimate sample`: draws K responses per prompt.

use std::path::PathBuf;

use collimate_rounds::{Draws, PromptRows};

use super::model_options::{ModelOptions, SamplingOptions, open_model};
use super::overwrite::Overwrite;
use super::sample_images::ImageFiles;
use crate::error::CliError;
use crate::inputs::open_rows;
use crate::io::{Io, Rows, scratch_beside};

/// Draw several responses to each prompt of a file
///
/// Reads rows with "prompt" (text or messages) and writes each with "responses": [{"content", "token_ids"}], keeping all other
/// fields. An answer ends where the chat template or an EOS ends it; "token_ids" are the tokens that were drawn, which
/// training then uses.
/// `collimate reward` adds a "reward" to each response; then the file can be trained on. Models of pictures read rows with
/// "condition" and write "tokens".
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
    /// For a model of pictures: folder to write each drawn picture to, as a PNG file named by row and response (00003-2.png).
    /// The model's folder has the decoder of its tokens
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
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
        let tokenizer = self.model.tokenizer(io)?;
        if self.images.is_some() && tokenizer.pictures().is_none() {
            return Err(CliError::usage("--images is for models of pictures"));
        }
        let mut out = Rows::create(&self.output)?;
        let options = self.sampling.resolve(self.temperature, self.num_responses, &tokenizer)?;
        let (name, rows) = open_rows(&self.data, io)?;
        let prompts = PromptRows::read(&name, rows, &tokenizer, &scratch_beside(&self.output))?;
        let count = prompts.num_prompts();
        let force = self.overwrite.is_forced();
        let images = self.images.as_deref();
        let images = images.map(|dir| ImageFiles::new(dir, &self.model.model, count, self.num_responses, force));
        let mut images = images.transpose()?;
        let mut session = open_model(checked, io)?;
        {
            let mut observer = io.observer(self.quiet);
            observer.stage("sampling", Some(count as u64));
            let mut draws = Draws::new(&prompts, &tokenizer, options, 0..count);
            while let Some(rows) = draws.next(session.as_mut())? {
                observer.advance(rows.len() as u64);
                for row in &rows {
                    out.push(row)?;
                    images.as_mut().map_or(Ok(()), |images| images.write(row))?;
                }
            }
            observer.finish();
        }
        out.commit(io)
    }
}
