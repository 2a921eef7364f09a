//! `collimate loop`: rounds of sampling, rewards and training.

use std::path::PathBuf;

use collimate_objective::registry;
use collimate_rounds::{LoopOptions, RoundReference, run_rounds, table};
use collimate_text::TextTokenizer;
use serde_json::{Map, json};

use super::model_options::SamplingOptions;
use super::recipe_options::RecipeOptions;
use super::reward::ProgramOptions;
use crate::error::CliError;
use crate::io::Io;

/// Sample, reward and train in rounds, each from where the last one ended
///
/// Every round draws responses to the prompts with the last round's model or adapter, lets the program give rewards (see
/// `collimate reward`), and trains on them as the recipe says. A round has a folder OUTPUT/round-R, and its figures are a
/// row of OUTPUT/loop.jsonl. With --resume what is finished is not done again, and a training that was stopped goes on.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  collimate loop recipe.yaml --prompts prompts.jsonl --command './verify --strict' --rounds 3 --num-responses 8 --output runs/loop"
)]
pub(crate) struct Args {
    #[command(flatten)]
    recipe: RecipeOptions,
    /// File of prompts, one row of JSON a line; further fields go to the program
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    /// Held-out prompts: their mean reward is measured at the start and after every round
    #[arg(long, value_name = "FILE")]
    eval_prompts: Option<PathBuf>,
    /// Rounds; more of them may be asked for with --resume
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Responses of each prompt in each round
    #[arg(long, short = 'n', value_name = "K", default_value_t = 8)]
    num_responses: usize,
    /// Responses of each held-out prompt
    #[arg(long, value_name = "K", default_value_t = 4)]
    eval_responses: usize,
    #[command(flatten)]
    program: ProgramOptions,
    /// What a round's policy is compared with: what the loop started from, or what the round started from; without this
    /// option and `reference` in the recipe, previous
    #[arg(long, value_name = "start|previous")]
    reference: Option<Reference>,
    /// Divides the logits
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f64,
    /// Keep the fewest tokens whose probabilities reach this sum
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f64,
    /// Keep this many of the likeliest tokens
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// Most tokens of a response; without it, what the recipe's max_length leaves beside max_prompt_length
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// Folder of the loop
    #[arg(long, value_name = "DIR")]
    output: Option<String>,
    /// Go on with the loop in the folder
    #[arg(long)]
    resume: bool,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
}

/// Values of `--reference`.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Reference {
    /// What the loop started from.
    Start,
    /// What the round started from: the last round's result.
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
        let (options, tokenizer) = self.resolve(io)?;
        let rows = {
            let signals = io.signals.clone();
            let mut observer = io.observer(self.quiet);
            signals.after_the_step(|stop| run_rounds(&options, &tokenizer, (stop, &mut *observer)))?
        };
        io.note(format_args!("{}", table(&rows).trim_end()));
        io.line(format_args!("{}", options.recipe.output_dir.display()))
    }

    fn resolve(&self, io: &mut Io<'_>) -> Result<(LoopOptions, TextTokenizer), CliError> {
        let recipe = self.recipe.load(&[("output_dir", &self.output)], io)?;
        registry::build(&recipe.objective.name, &recipe.objective.params)?;
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
        let model = recipe.model()?.to_owned();
        let tokenizer = TextTokenizer::from_model_dir(&model)?;
        let sampling = SamplingOptions {
            max_new_tokens: self.max_new_tokens.unwrap_or(recipe.max_length - recipe.max_prompt_length),
            top_p: self.top_p,
            top_k: self.top_k,
            seed: recipe.seed,
        };
        let sampling = sampling.resolve(self.temperature, self.num_responses, &model, &tokenizer)?;
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
            program: self.program.resolve()?,
            reference: self.reference.map(RoundReference::from),
            resume: self.resume,
            settings: settings.as_object().cloned().unwrap_or_else(Map::new),
            recipe,
        };
        Ok((options, tokenizer))
    }
}
