//! The loop: sample, reward and train in rounds, each starting from the last round's result.
//!
//! ```text
//! OUTPUT/loop.json      what the loop was started with
//! OUTPUT/loop.jsonl     one row per finished round
//! OUTPUT/round-R/       samples, rewards and the training run
//! ```
//!
//! Every finished stage leaves a file that marks it, and a resumed loop skips it. Samples depend only on the recipe's seed
//! and the round's number.

mod record;
mod seeds;
mod stages;

use std::path::{Path, PathBuf};
use std::time::Instant;

use collimate_data::{JsonRows, data_files};
use collimate_files::{FolderLock, ScratchFolder, open_regular, remove_leftovers};
use collimate_model::GenerateOptions;
use collimate_recipe::Recipe;
use collimate_text::TextTokenizer;
use collimate_train::{RunContext, TrainError};
use serde_json::{Map, Value};

use crate::error::RoundsError;
use crate::rewarder::RewardOptions;
use crate::sampling::PromptRows;
use record::Record;
pub use record::{RoundRow, table};
use stages::Round;

/// The reference model of every round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoundReference {
    /// The model that the loop started from.
    Start,
    /// The model that the round starts from: the last round's result.
    Previous,
}

/// The settings of a loop.
#[derive(Debug)]
pub struct LoopOptions {
    /// The recipe of every round; its folder is the loop's.
    pub recipe: Recipe,
    /// File of the prompts to train on.
    pub prompts: PathBuf,
    /// File of held-out prompts, whose mean reward is measured after every round.
    pub eval_prompts: Option<PathBuf>,
    /// Number of rounds.
    pub rounds: usize,
    /// How responses to training prompts are drawn, and how many.
    pub sampling: GenerateOptions,
    /// Responses to each held-out prompt.
    pub num_eval_responses: usize,
    /// The program that gives rewards.
    pub program: RewardOptions,
    /// What to compare the policy with; `None` leaves it to the recipe, which defaults to the previous round.
    pub reference: Option<RoundReference>,
    /// Whether to continue the loop in the folder.
    pub resume: bool,
    /// Further settings that affect the results, by name; resuming with different ones is refused.
    pub settings: Map<String, Value>,
}

/// The prompts of a file.
struct Prompts {
    rows: PromptRows,
    hash: String,
}

impl Prompts {
    fn read(path: &Path, tokenizer: &TextTokenizer, folder: &Path) -> Result<Self, RoundsError> {
        let scratch = ScratchFolder::beside(&folder.join("loop.jsonl"));
        let rows = PromptRows::read(path, JsonRows::open(path)?, tokenizer, &scratch)?;
        let mut hash = blake3::Hasher::new();
        for file in data_files(path)? {
            let read = open_regular(&file).and_then(|mut opened| std::io::copy(&mut opened, &mut hash));
            read.map_err(RoundsError::read(&file))?;
        }
        Ok(Self { rows, hash: hash.finalize().to_hex()[..16].to_owned() })
    }
}

/// Runs the rounds that are not finished yet; returns the rows of all rounds.
///
/// # Errors
/// The folder holds another loop or is in use; sampling, the reward program or training fails; a stop was requested.
/// Finished stages stay and are not repeated.
pub fn run_rounds(
    options: &LoopOptions,
    tokenizer: &TextTokenizer,
    context: &mut RunContext<'_>,
) -> Result<Vec<RoundRow>, RoundsError> {
    let out = &options.recipe.output_dir;
    let mut lock = FolderLock::acquire(out).map_err(TrainError::from)?;
    let prompts = Prompts::read(&options.prompts, tokenizer, out)?;
    let held_out = options.eval_prompts.as_deref().map(|path| Prompts::read(path, tokenizer, out)).transpose()?;
    let hashes = [("prompts", Some(&prompts)), ("eval_prompts", held_out.as_ref())];
    let hashes = hashes.map(|(name, prompts)| (name.to_owned(), prompts.map(|prompts| prompts.hash.clone()).into()));
    let mut record = Record::open(options, hashes.into_iter().collect())?;
    remove_leftovers(out)?;
    lock.keep_folder();
    for number in 0..=options.rounds {
        if record.has(number) || (number == 0 && held_out.is_none()) {
            continue;
        }
        let begun = Instant::now();
        let round = Round::begin(options, number, tokenizer)?;
        let mut row = RoundRow { round: number, ..RoundRow::default() };
        if number > 0 {
            context.observer.note(&format!("round {number} of {}", options.rounds));
            round.sample_and_reward(&prompts, &mut row, context)?;
            row.num_steps = Some(round.train(context)?);
        }
        if let Some(held_out) = &held_out {
            row.eval_mean_reward = round.evaluate(held_out, context)?;
        }
        row.seconds = begun.elapsed().as_secs_f64();
        context.observer.note(&row.describe());
        record.add(row)?;
    }
    Ok(record.rows)
}
