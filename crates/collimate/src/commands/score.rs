//! `collimate score`: log-probs of responses.

use std::path::PathBuf;

use collimate_data::{DataFiles, RowWriter, counted, either};
use collimate_model::TokenLogps;
use collimate_text::{GroupBatch, TextChecks, TokenizedGroup, tokenize_all};
use collimate_train::{Session, TrainError};
use serde_json::{Value, json};

use super::data_options::{DataOptions, LengthOptions, in_files, take};
use super::model_options::{ModelOptions, open_model};
use super::overwrite::Overwrite;
use super::score_condition::{Condition, Prompts};
use crate::error::CliError;
use crate::io::Io;

/// Most groups of a forward pass, which are in memory together.
const MAX_BATCH: usize = 1024;

/// Write the log-prob of every response under a model
///
/// One row per group: {"index", "responses": [{"logps", "num_tokens"}]}. A log-prob is in nats and summed over the response's
/// tokens, including its end-of-turn or EOS token.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  collimate score --model models/base --data rewards.jsonl --output logps.jsonl")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelOptions,
    /// Files of groups, folders or patterns
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// File to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    overwrite: Overwrite,
    /// Also write token ids and each token's log-prob
    #[arg(long)]
    tokens: bool,
    #[command(flatten)]
    read: DataOptions,
    #[command(flatten)]
    lengths: LengthOptions,
    /// The prompt to score each row's responses under
    #[arg(long, value_enum, default_value_t = Condition::Own)]
    condition: Condition,
    /// Groups per forward pass
    #[arg(long, value_name = "N", default_value_t = 4)]
    batch_size: usize,
    /// Score each response as a separate sequence instead of sharing the prompt
    #[arg(long)]
    separate: bool,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
}

impl Args {
    pub(crate) fn run(mut self, io: &mut Io<'_>) -> Result<(), CliError> {
        self.check_size()?;
        self.overwrite.check_all(&self.output, &self.data, &self.model)?;
        self.model.locate(io)?;
        let checked = self.model.check()?;
        let options = self.lengths.resolve(&self.read, 1)?;
        let mut out = RowWriter::create(&self.output)?;
        let mut reader = self.read.open_unrewarded(&self.data, io)?;
        let tokenizer = self.model.tokenizer(io)?;
        let mut prompts = Prompts::new(self.condition, &tokenizer)?;
        let mut session = open_model(checked, io)?;
        let mut num_skipped = 0;
        let mut checks = TextChecks::default();
        {
            let mut observer = io.observer(self.quiet);
            observer.stage("scoring", None);
            loop {
                let groups = take(&mut reader, self.batch_size)?;
                let (tokenized, counts) =
                    tokenize_all(&groups, &tokenizer, &options).map_err(|error| in_files(reader.files(), error))?;
                num_skipped += counts.num_skipped();
                checks.merge(counts.texts);
                let tokenized = prompts.of(tokenized, groups.is_empty());
                if tokenized.is_empty() {
                    match groups.is_empty() {
                        true => break,
                        false => continue,
                    }
                }
                let logps = self.logps(session.as_mut(), &tokenized)?;
                for (group, logps) in tokenized.iter().zip(&logps) {
                    check(group, logps, reader.files())?;
                    out.push(&row(group, logps, self.tokens))?;
                }
                observer.advance(groups.len() as u64);
            }
            observer.finish();
        }
        // They were logged when it was opened.
        checks.tokenizer.clear();
        for warning in checks.warnings(&|index, line| reader.files().location(index, line)) {
            io.note(format_args!("{warning}"));
        }
        let num_skipped = num_skipped + reader.counts().num_skipped();
        if checks.sampled > 0 {
            io.note(format_args!("{}", checks.summary()));
        }
        if num_skipped > 0 {
            io.note(format_args!(
                "{} cannot be used and {} skipped",
                counted(num_skipped, "group"),
                either(num_skipped, "was", "were")
            ));
        }
        Ok(out.commit()?)
    }
}

/// Refuses log-probs that are no numbers: JSON has none for them.
fn check(group: &TokenizedGroup, logps: &[Vec<f64>], files: &DataFiles) -> Result<(), TrainError> {
    let sums = logps.iter().map(|logps| logps.iter().sum::<f64>());
    let Some((response, logp)) = sums.enumerate().find(|(_, logp)| !logp.is_finite()) else { return Ok(()) };
    let location = files.location(group.index, group.line);
    Err(TrainError::RowNotFinite { location, problem: format!("the log-prob of response {response} is {logp}") })
}

impl Args {
    fn check_size(&self) -> Result<(), CliError> {
        match self.batch_size {
            0 => Err(CliError::usage("--batch-size must be at least 1")),
            size if size > MAX_BATCH => Err(CliError::usage(format!("--batch-size must be at most {MAX_BATCH}"))),
            _ => Ok(()),
        }
    }
}

/// Most tokens of a forward pass over several responses.
const MAX_PASS_TOKENS: usize = 1 << 16;

impl Args {
    /// The log-probs of groups' responses: from one pass, or from several where one would be very large.
    fn logps(&self, session: &mut dyn Session, groups: &[TokenizedGroup]) -> Result<TokenLogps, CliError> {
        // What a response adds to a pass that has its prompt already, and a pass's prompt.
        let repeated = |group: &TokenizedGroup| if self.separate { group.prompt_ids.len() } else { 0 };
        let num_tokens = |group: &TokenizedGroup| group.num_tokens() + group.responses.len() * repeated(group);
        if groups.iter().map(num_tokens).sum::<usize>() <= MAX_PASS_TOKENS {
            let batch = if self.separate { GroupBatch::separate(groups) } else { GroupBatch::shared(groups) };
            return Ok(session.score(&batch, true, None)?);
        }
        let mut logps = Vec::new();
        for group in groups {
            let (mut of_group, mut first) = (Vec::new(), 0);
            while first < group.responses.len() {
                let (mut end, mut tokens) = (first, group.prompt_ids.len());
                while let Some(response) = group.responses.get(end) {
                    tokens += response.ids.len() + repeated(group);
                    if end > first && tokens > MAX_PASS_TOKENS {
                        break;
                    }
                    end += 1;
                }
                let batch = GroupBatch::parts([(group, first..end)], !self.separate);
                of_group.extend(session.score(&batch, true, None)?.into_iter().flatten());
                first = end;
            }
            logps.push(of_group);
        }
        Ok(logps)
    }
}

fn row(group: &TokenizedGroup, logps: &[Vec<f64>], tokens: bool) -> Value {
    let responses = group.responses.iter().zip(logps).map(|(response, logps)| {
        let mut fields = json!({"logps": logps.iter().sum::<f64>(), "num_tokens": logps.len()});
        if tokens {
            fields["token_logps"] = json!(logps);
            fields["response_ids"] = json!(response.ids);
        }
        fields
    });
    let responses: Vec<Value> = responses.collect();
    let mut row = json!({"index": group.index});
    if tokens {
        row["prompt_ids"] = json!(group.prompt_ids);
    }
    row["responses"] = Value::Array(responses);
    row
}
