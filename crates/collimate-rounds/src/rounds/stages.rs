//! The stages of one round. Each writes its file last and atomically, which marks it as finished.

use std::path::{Path, PathBuf};

use collimate_data::{JsonRows, RowWriter, counted};
use collimate_files::{ScratchFolder, WriteError, plain_folder, read_plain, remove_leftovers, write_atomically};
use collimate_model::GenerateOptions;
use collimate_recipe::Recipe;
use collimate_text::TextTokenizer;
use collimate_train::{RunContext, RunControl, SessionOptions, StopFlag, TrainError, open_session};
use serde::{Deserialize, Serialize};

use super::record::RoundRow;
use super::seeds::{Purpose, seed_of};
use super::{LoopOptions, Prompts, RoundReference};
use crate::error::RoundsError;
use crate::rewarder::{RewardRows, RewardSummary, reward_rows};
use crate::sampling::Draws;

/// Sequences to generate per call: as many as a session decodes together.
const SEQUENCES_A_CALL: usize = 256;
/// Marks the round's training as finished.
const TRAINED_FILE: &str = "trained.json";
/// The largest mark of a finished stage, in bytes; it has a few figures.
const MAX_MARK_BYTES: u64 = 1 << 20;

pub(super) struct Round<'a> {
    options: &'a LoopOptions,
    tokenizer: &'a TextTokenizer,
    number: usize,
    dir: PathBuf,
}

/// A model, with an adapter or without.
struct Policy {
    model: PathBuf,
    adapter: Option<PathBuf>,
}

/// Samples that a round draws and scores, in files of its folder.
struct Draw<'a> {
    /// Prefix of the files' names.
    prefix: &'a str,
    /// Name of the file to train on, if one is written.
    training_data: Option<&'a str>,
    policy: &'a Policy,
    prompts: &'a Prompts,
    /// Responses to each prompt.
    num_responses: usize,
    /// Purpose of each call's seed, by the call's number.
    purpose: fn(u32) -> Purpose,
}

#[derive(Serialize, Deserialize)]
struct Trained {
    num_steps: usize,
}

impl<'a> Round<'a> {
    pub(super) fn begin(
        options: &'a LoopOptions,
        number: usize,
        tokenizer: &'a TextTokenizer,
    ) -> Result<Self, RoundsError> {
        let dir = dir_of(options, number);
        plain_folder(&dir).map_err(WriteError::at(&dir))?;
        remove_leftovers(&dir)?;
        Ok(Self { options, tokenizer, number, dir })
    }

    /// Samples responses from the round's initial policy, scores them, and writes the training data.
    pub(super) fn sample_and_reward(
        &self,
        prompts: &Prompts,
        row: &mut RoundRow,
        context: &mut RunContext<'_>,
    ) -> Result<(), RoundsError> {
        let draw = Draw {
            prefix: "",
            training_data: Some("train.jsonl"),
            policy: &policy_before(self.options, self.number),
            prompts,
            num_responses: self.options.sampling.num_samples,
            purpose: Purpose::Sampling,
        };
        let summary = self.rewards(&draw, context)?;
        row.num_responses = Some(summary.num_responses);
        row.num_failed = Some(summary.num_failed);
        (row.mean_reward, row.best_reward) = (summary.mean, summary.best);
        Ok(())
    }

    /// Measures the mean reward of the round's final policy.
    pub(super) fn evaluate(&self, prompts: &Prompts, context: &mut RunContext<'_>) -> Result<Option<f64>, RoundsError> {
        let draw = Draw {
            prefix: "eval-",
            training_data: None,
            policy: &policy_before(self.options, self.number + 1),
            prompts,
            num_responses: self.options.num_eval_responses,
            purpose: Purpose::Evaluation,
        };
        Ok(self.rewards(&draw, context)?.mean)
    }

    /// Samples and scores: writes `samples.jsonl`, `rewards.jsonl` and `rewards.json` with a prefix, and the data to train
    /// on if it has a name.
    fn rewards(&self, draw: &Draw<'_>, context: &mut RunContext<'_>) -> Result<RewardSummary, RoundsError> {
        let prefix = draw.prefix;
        let done = self.dir.join(format!("{prefix}rewards.json"));
        if let Some(summary) = read_mark(&done)? {
            return Ok(summary);
        }
        let samples = self.dir.join(format!("{prefix}samples.jsonl"));
        if !samples.exists() {
            self.sample(&samples, draw, context)?;
        }
        let rewards = self.dir.join(format!("{prefix}rewards.jsonl"));
        let rows = RewardRows::read(&samples, JsonRows::open(&samples)?, &ScratchFolder::beside(&rewards))?;
        let mut all = RowWriter::create_plain(&rewards)?;
        let training_data = draw.training_data.map(|name| RowWriter::create_plain(&self.dir.join(name)));
        let mut training_data = training_data.transpose()?;
        let summary = reward_rows(rows, &self.options.program, context, &mut |row| {
            row.kept(|_| true).map_or(Ok(()), |row| all.push(&row))?;
            let Some(out) = &mut training_data else { return Ok(()) };
            // A response with only an end token cannot be trained on; its siblings can.
            Ok::<_, RoundsError>(row.kept(|text| !text.trim().is_empty()).map_or(Ok(()), |row| out.push(&row))?)
        })?;
        let summary = summary.ok_or_else(|| self.interrupted("responses were scored", context.stop))?;
        all.commit()?;
        training_data.map_or(Ok(()), RowWriter::commit)?;
        write_mark(&done, &summary)?;
        Ok(summary)
    }

    fn sample(&self, path: &Path, draw: &Draw<'_>, context: &mut RunContext<'_>) -> Result<(), RoundsError> {
        let Draw { policy, prompts, num_responses, .. } = *draw;
        let recipe = &self.options.recipe;
        let session = SessionOptions::of_recipe(recipe, &policy.model, policy.adapter.clone());
        let mut session = open_session(&session)?;
        session.notes().iter().for_each(|note| context.observer.note(&format!("warning: {note}")));
        let mut out = RowWriter::create_plain(path)?;
        let stage = format!("sampling {} a prompt", counted(num_responses, "response"));
        let num_prompts = prompts.rows.num_prompts();
        context.observer.stage(&stage, Some(num_prompts as u64));
        let size = (SEQUENCES_A_CALL / num_responses).max(1);
        for (call, first) in (0..num_prompts).step_by(size).enumerate() {
            let seed = seed_of(recipe.seed, self.number, (draw.purpose)(call as u32));
            let options = GenerateOptions { seed, num_samples: num_responses, ..self.options.sampling.clone() };
            let rows = first..num_prompts.min(first + size);
            let mut draws = Draws::new(&prompts.rows, self.tokenizer, options, rows);
            loop {
                if context.stop.requested().is_some() {
                    context.observer.finish();
                    return Err(self.interrupted("responses were sampled", context.stop));
                }
                let Some(rows) = draws.next(session.as_mut())? else { break };
                context.observer.advance(rows.len() as u64);
                rows.iter().try_for_each(|row| out.push(row))?;
            }
        }
        context.observer.finish();
        Ok(out.commit()?)
    }

    /// Trains on the round's data, or resumes; returns the number of steps.
    pub(super) fn train(&self, context: &mut RunContext<'_>) -> Result<usize, RoundsError> {
        let mark = self.dir.join(TRAINED_FILE);
        if let Some(Trained { num_steps }) = read_mark(&mark)? {
            return Ok(num_steps);
        }
        // Training writes its recipe before anything else; a folder without it may have lost it.
        let begun = ["recipe.yaml", "metrics.jsonl"].iter().any(|name| self.dir.join(name).exists());
        let resume = begun || collimate_checkpoint::has_any(&self.dir).map_err(TrainError::from)?;
        let control = RunControl { resume, stop: context.stop.clone() };
        let summary = collimate_train::train(&self.recipe(), context.observer, &control)?;
        if let Some(verdict) = &summary.verdict {
            context.observer.note(&format!("warning: {verdict}"));
        }
        write_mark(&mark, &Trained { num_steps: summary.num_steps })?;
        Ok(summary.num_steps)
    }

    /// The recipe of the round's training.
    fn recipe(&self) -> Recipe {
        let given = &self.options.recipe;
        let start = policy_before(self.options, self.number);
        Recipe {
            model_name_or_path: Some(start.model),
            adapter: start.adapter,
            reference: reference(self.options, self.number),
            data: Some(self.dir.join("train.jsonl").into()),
            // Rounds write Collimate's own layout, whatever the recipe says about its data.
            data_layout: None,
            reward_from: None,
            higher_is_better: None,
            seed: seed_of(given.seed, self.number, Purpose::Training),
            output_dir: self.dir.clone(),
            ..given.clone()
        }
    }

    fn interrupted(&self, what: &str, stop: &StopFlag) -> RoundsError {
        let saved = format!("while {what} in round {}; --resume continues it", self.number);
        TrainError::Interrupted { signal: stop.requested().unwrap_or(0), saved }.into()
    }
}

fn dir_of(options: &LoopOptions, round: usize) -> PathBuf {
    options.recipe.output_dir.join(format!("round-{round}"))
}

/// The initial policy of a round: the recipe's model and adapter, or the last round's result.
fn policy_before(options: &LoopOptions, round: usize) -> Policy {
    let recipe = &options.recipe;
    let model = recipe.model_name_or_path.clone().unwrap_or_default();
    match round {
        0 | 1 => Policy { model, adapter: recipe.adapter.clone() },
        _ if recipe.use_peft => Policy { model, adapter: Some(dir_of(options, round - 1)) },
        _ => Policy { model: dir_of(options, round - 1), adapter: None },
    }
}

/// The value of `reference` in a round's recipe.
fn reference(options: &LoopOptions, round: usize) -> Option<String> {
    let recipe = &options.recipe;
    match options.reference {
        None => recipe.reference.clone(),
        Some(RoundReference::Previous) => None,
        Some(RoundReference::Start) if round <= 1 => None,
        Some(RoundReference::Start) => {
            let start = policy_before(options, 1);
            let folder = if recipe.use_peft { start.adapter } else { Some(start.model) };
            Some(folder.map_or("base".to_owned(), |folder| folder.display().to_string()))
        }
    }
}

fn read_mark<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, RoundsError> {
    if !path.exists() {
        return Ok(None);
    }
    let text = read_plain(path, MAX_MARK_BYTES).map_err(RoundsError::read(path))?;
    let damaged = |error: serde_json::Error| TrainError::Checkpoint {
        path: path.to_owned(),
        message: format!("is damaged: {error}; remove it, and the stage is done again"),
    };
    Ok(Some(serde_json::from_str(&text).map_err(damaged)?))
}

fn write_mark(path: &Path, mark: &impl Serialize) -> Result<(), RoundsError> {
    let text = serde_json::to_string(mark).unwrap_or_default();
    Ok(write_atomically(path, (text + "\n").as_bytes())?)
}
