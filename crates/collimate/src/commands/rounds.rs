//! `collimate loop`: sample, reward and train in rounds.

use std::path::PathBuf;

use collimate_rounds::{LoopOptions, RoundReference, run_rounds, table};
use collimate_text::TextTokenizer;
use collimate_train::{RunContext, tokenizer_changes};
use serde_json::{Map, json};

use super::model_options::{SamplingOptions, log_warnings};
use super::ranks::only_alone;
use super::recipe_options::RecipeOptions;
use super::reward::ProgramOptions;
use crate::error::CliError;
use crate::io::Io;

/// Sample, reward and train in rounds, each starting from the last one's result
///
/// Every round samples responses to the prompts with the last round's model or adapter, has the program score them (see
/// `collimate reward`), and trains on them as the recipe says. A round's files are in OUTPUT/round-R, its metrics in a row of
/// OUTPUT/loop.jsonl. --resume skips finished stages and continues an interrupted training run.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  collimate loop recipe.yaml --prompts prompts.jsonl --command './verify --strict' --rounds 3 --num-responses 8 --output runs/loop"
)]
pub(crate) struct Args {
    #[command(flatten)]
    recipe: RecipeOptions,
    /// File of prompts, one JSON object per line; other fields are passed to the program
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    /// Held-out prompts, whose mean reward is measured at the start and after every round
    #[arg(long, value_name = "FILE")]
    eval_prompts: Option<PathBuf>,
    /// Number of rounds; may be raised with --resume
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Responses per prompt and round
    #[arg(long, short = 'n', value_name = "K", default_value_t = 8)]
    num_responses: usize,
    /// Responses per held-out prompt
    #[arg(long, value_name = "K", default_value_t = 4)]
    eval_responses: usize,
    #[command(flatten)]
    program: ProgramOptions,
    /// The reference of a round: the model the loop started from, or the one the round started from [default: the recipe's
    /// `reference`, or previous]
    #[arg(long, value_name = "start|previous")]
    reference: Option<Reference>,
    /// Sampling temperature
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f64,
    /// Sample from the smallest set of tokens with this total probability
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f64,
    /// Sample from this many of the likeliest tokens
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// Longest response in tokens [default: what the recipe's limits leave for one]
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// Folder of the loop
    #[arg(long, value_name = "DIR")]
    output: Option<String>,
    /// Continue the loop in the folder
    #[arg(long)]
    resume: bool,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
}

/// Values of `--reference`.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Reference {
    /// The model that the loop started from.
    Start,
    /// The model that the round starts from: the last round's result.
    Previous,
}

impl From<Reference> for RoundReference {
    fn from(reference: Reference) -> Self {
        match reference {
            Reference::Start => Self::Start,
            Reference::Previous => Self::Previous,
        }
    }
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        only_alone("loop")?;
        let (options, tokenizer) = self.resolve(io)?;
        let rows = {
            let signals = io.signals.clone();
            let mut observer = io.observer(self.quiet);
            signals
                .after_the_step(|stop| run_rounds(&options, &tokenizer, &mut RunContext::new(stop, &mut *observer)))?
        };
        io.note(format_args!("{}", table(&rows).trim_end()));
        io.line(format_args!("{}", options.recipe.output_dir.display()))
    }

    fn resolve(&self, io: &mut Io<'_>) -> Result<(LoopOptions, TextTokenizer), CliError> {
        let recipe = self.recipe.load(&[("output_dir", &self.output)], io)?;
        io.log_to(recipe.log_file.as_deref())?;
        for (name, value) in [
            ("--rounds", self.rounds),
            ("--num-responses", self.num_responses),
            ("--eval-responses", self.eval_responses),
        ] {
            if value == 0 {
                return Err(CliError::usage(format!("{name} must be at least 1")));
            }
        }
        if self.reference.is_some() && recipe.reference.is_some() {
            return Err(CliError::usage("--reference is given, and the recipe has a reference too: leave one out"));
        }
        let program = self.program.resolve()?;
        collimate_train::check_recipe(&recipe).map_err(|error| self.recipe.at_key(error))?;
        let model = recipe.model()?.to_owned();
        let tokenizer = tokenizer_changes(&recipe).open(&model)?;
        log_warnings(&tokenizer, io);
        let given = SamplingOptions {
            guidance: None,
            max_new_tokens: self.max_new_tokens.unwrap_or_else(|| recipe.response_room()),
            top_p: self.top_p,
            top_k: self.top_k,
            seed: recipe.seed,
        };
        let sampling = given.resolve(self.temperature, self.num_responses, &tokenizer)?;
        given.resolve(self.temperature, self.eval_responses, &tokenizer)?;
        let settings = json!({
            "command": self.program.text(),
            "num_responses": self.num_responses,
            "eval_responses": self.eval_responses,
            "reference": self.reference.map(|reference| format!("{reference:?}").to_lowercase()),
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "max_new_tokens": sampling.max_new_tokens,
        });
        let options = LoopOptions {
            prompts: self.prompts.clone(),
            eval_prompts: self.eval_prompts.clone(),
            rounds: self.rounds,
            sampling,
            num_eval_responses: self.eval_responses,
            program,
            reference: self.reference.map(RoundReference::from),
            resume: self.resume,
            settings: settings.as_object().cloned().unwrap_or_else(Map::new),
            recipe,
        };
        Ok((options, tokenizer))
    }
}
