//! The mean reward of answers that are drawn to held-out prompts.

use std::path::{Path, PathBuf};

use collimate_data::{JsonRows, RowWriter};
use collimate_files::{ScratchFolder, read_plain, write_atomically};
use collimate_model::GenerateOptions;
use collimate_recipe::Recipe;
use collimate_rounds::{Draws, PromptRows, RewardOptions, RewardRows, reward_rows};
use collimate_session::{SessionOptions, open_session};
use collimate_text::TextTokenizer;
use collimate_train::{Observer, RunContext, StopFlag, TrainError, tokenizer_changes};

use crate::error::TuneError;

/// The largest file of a mean reward, in bytes; it has one number.
const MAX_MARK_BYTES: u64 = 1 << 10;

/// How sampled answers are scored.
#[derive(Debug)]
pub struct RewardScore {
    /// The user's program.
    pub program: RewardOptions,
    /// File of held-out prompts, with the fields that the program reads.
    pub prompts: PathBuf,
    /// Answers to each prompt.
    pub num_responses: usize,
    /// Most tokens of an answer.
    pub max_new_tokens: usize,
}

impl RewardScore {
    /// The mean reward of a run's checkpoint after `step` steps, or the one that was found before.
    ///
    /// # Errors
    /// The checkpoint is gone; a prompt, an answer or the program fails; a stop was requested.
    pub(crate) fn of(
        &self,
        recipe: &Recipe,
        step: usize,
        stop: &StopFlag,
        observer: &mut dyn Observer,
    ) -> Result<f64, TuneError> {
        let mark = recipe.output_dir.join(format!("reward-{step}.json"));
        if mark.exists() {
            let text = read_plain(&mark, MAX_MARK_BYTES).map_err(TuneError::read(&mark))?;
            let damaged = |error: serde_json::Error| TuneError::read(&mark)(std::io::Error::other(error));
            return serde_json::from_str(&text).map_err(damaged);
        }
        let checkpoint = collimate_checkpoint::after_step(&recipe.output_dir, step).map_err(TrainError::from)?.path;
        let samples = self.sample(recipe, &checkpoint, observer)?;
        let rows = RewardRows::read(&samples, JsonRows::open(&samples)?, &ScratchFolder::beside(&samples))?;
        let context = &mut RunContext::new(stop, observer);
        let summary = reward_rows(rows, &self.program, context, &mut |_| Ok::<_, TuneError>(()))?;
        let interrupted = || TrainError::Interrupted {
            signal: stop.requested().unwrap_or(0),
            saved: "while answers were scored; --resume goes on".to_owned(),
        };
        let mean = summary.ok_or_else(interrupted)?.mean.unwrap_or(f64::NEG_INFINITY);
        write_atomically(&mark, format!("{mean}\n").as_bytes())?;
        Ok(mean)
    }

    /// Reads the prompts, so that one that cannot be used is named before anything is computed.
    ///
    /// # Errors
    /// The tokenizer cannot be opened, or a row has no usable prompt.
    pub(crate) fn check(&self, recipe: &Recipe, folder: &Path) -> Result<(), TuneError> {
        self.prompts(recipe, &folder.join("answers.jsonl")).map(drop)
    }

    fn prompts(&self, recipe: &Recipe, beside: &Path) -> Result<(TextTokenizer, PromptRows), TuneError> {
        let model = recipe.model().map_err(TrainError::from)?;
        let tokenizer = tokenizer_changes(recipe).open(model).map_err(TrainError::from)?;
        let scratch = ScratchFolder::beside(beside);
        let prompts = PromptRows::read(&self.prompts, JsonRows::open(&self.prompts)?, &tokenizer, &scratch)?;
        Ok((tokenizer, prompts))
    }

    /// Draws answers with temperature 1 into a file beside the run's.
    fn sample(&self, recipe: &Recipe, checkpoint: &Path, observer: &mut dyn Observer) -> Result<PathBuf, TuneError> {
        let path = recipe.output_dir.join("answers.jsonl");
        let model = recipe.model().map_err(TrainError::from)?;
        let (tokenizer, prompts) = self.prompts(recipe, &path)?;
        let (model, adapter) = match recipe.use_peft {
            true => (model, Some(checkpoint.to_owned())),
            false => (checkpoint, None),
        };
        let mut session = open_session(&SessionOptions::of_recipe(recipe, model, adapter))?;
        let options = GenerateOptions {
            max_new_tokens: self.max_new_tokens,
            num_samples: self.num_responses,
            temperature: 1.0,
            seed: recipe.seed,
            ends: tokenizer.turn_ends().clone(),
            ..GenerateOptions::default()
        };
        observer.stage("answers", Some(prompts.num_prompts() as u64));
        let mut out = RowWriter::create_plain(&path)?;
        let mut draws = Draws::new(&prompts, &tokenizer, options, 0..prompts.num_prompts());
        while let Some(rows) = draws.next(session.as_mut())? {
            observer.advance(rows.len() as u64);
            rows.iter().try_for_each(|row| out.push(row))?;
        }
        observer.finish();
        out.commit()?;
        Ok(path)
    }
}
