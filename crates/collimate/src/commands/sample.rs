//! `collimate sample`: K responses a prompt, to be scored and trained on.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use collimate_data::{DataError, Prompt};
use collimate_files::{AtomicFile, WriteError};
use serde::Deserialize;
use serde_json::{Value, json};

use super::model_options::{ModelOptions, SamplingOptions, encode_prompt};
use crate::error::CliError;
use crate::io::Io;

/// Draw several responses to each prompt of a file
///
/// Reads rows with "prompt" (text or messages) and writes each with "responses": [{"content": …}]. Add a "reward" to
/// each response, and the file can be trained on.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  collimate sample --model models/base --data prompts.jsonl --num-responses 8 --output samples.jsonl"
)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelOptions,
    /// File of prompts, one row of JSON a line
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// File to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Responses of each prompt
    #[arg(long, short = 'n', value_name = "K", default_value_t = 8)]
    num_responses: usize,
    /// Divides the logits; 0 takes the likeliest token always
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f64,
    #[command(flatten)]
    sampling: SamplingOptions,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
}

#[derive(Deserialize)]
struct Row {
    prompt: Prompt,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        if self.num_responses == 0 {
            return Err(CliError::usage("--num-responses must be at least 1"));
        }
        let tokenizer = self.model.tokenizer()?;
        let options = self.sampling.resolve(self.temperature, self.num_responses, &self.model.model, &tokenizer)?;
        let prompts = read_prompts(&self.data)?;
        let mut ids = Vec::with_capacity(prompts.len());
        for (line, prompt) in &prompts {
            let encoded = encode_prompt(prompt, &tokenizer)?;
            if encoded.is_empty() {
                let problem = "the prompt is empty after tokenization".to_owned();
                return Err(DataError::Row { path: self.data.clone(), line: *line, problem }.into());
            }
            ids.push(encoded);
        }
        let mut session = self.model.open()?;
        let mut out = BufWriter::new(AtomicFile::create(&self.output)?);
        let mut observer = io.observer(self.quiet);
        observer.stage("sampling", Some(ids.len() as u64));
        let outputs = session.generate(&ids, &options, &mut |count| observer.advance(count as u64))?;
        observer.finish();
        for ((_, prompt), samples) in prompts.iter().zip(outputs) {
            let contents: Result<Vec<Value>, DataError> =
                samples.iter().map(|ids| Ok(json!({"content": tokenizer.decode(ids, true)?}))).collect();
            let row = json!({"prompt": prompt, "responses": contents?});
            writeln!(out, "{row}").map_err(CliError::write(&self.output))?;
        }
        let file = out.into_inner().map_err(|error| WriteError::of(&self.output)(error.into_error()))?;
        Ok(file.commit()?)
    }
}

/// The prompts of a file with their lines.
fn read_prompts(path: &Path) -> Result<Vec<(usize, Prompt)>, CliError> {
    let file = BufReader::new(File::open(path).map_err(CliError::read(path))?);
    let mut prompts = Vec::new();
    for (index, line) in file.lines().enumerate() {
        let text = line.map_err(CliError::read(path))?;
        if text.trim().is_empty() {
            continue;
        }
        let row: Row = serde_json::from_str(&text).map_err(|error| DataError::Row {
            path: path.to_owned(),
            line: index + 1,
            problem: format!("expected an object with \"prompt\", text or messages: {error}"),
        })?;
        prompts.push((index + 1, row.prompt));
    }
    if prompts.is_empty() {
        return Err(DataError::File { path: path.to_owned(), problem: "holds no prompt".to_owned() }.into());
    }
    Ok(prompts)
}
