//! Options for models and generation, shared by several verbs.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use collimate_backend::ComputeDtype;
use collimate_model::{GenerateOptions, Guidance};
use collimate_recipe::{MATMUL_PRECISIONS, QUANTIZATIONS, Recipe, WEIGHT_PLACES};
use collimate_text::{TextTokenizer, TokenizerChanges};
use collimate_train::tokenizer_changes;
use collimate_train::{CheckedSession, Session, SessionOptions, check_session};

use super::by_recipe;
use crate::error::CliError;
use crate::inputs::{adapter_folder, model_folder};
use crate::io::Io;

/// Which model to use, and where to run it.
#[derive(Debug, clap::Args)]
pub(crate) struct ModelOptions {
    /// Hugging Face model folder, or a name on the hub
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// PEFT adapter for the model: a folder, or a name on the hub
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
    /// Recipe whose chat template, its variables, system prompt and end of sequence apply
    #[arg(long, value_name = "FILE")]
    pub(crate) recipe: Option<PathBuf>,
    #[arg(skip)]
    changes: Option<TokenizerChanges>,
    /// Compute backend (see `collimate backends`)
    #[arg(long, value_name = "NAME", default_value = "flex")]
    pub(crate) backend: String,
    /// Index of the backend's device
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) device: usize,
    /// Number type to compute in
    #[arg(long, value_name = "TYPE", default_value = "float32", value_parser = compute_dtype)]
    pub(crate) compute_dtype: ComputeDtype,
    /// How exact products of float32 numbers are: highest, high or medium
    #[arg(long, value_name = "NAME", default_value = "highest", value_parser = PossibleValuesParser::new(MATMUL_PRECISIONS))]
    pub(crate) float32_matmul_precision: String,
    /// Format to pack the weights of the model's linear layers into: none, nf4, nf4-double or int8
    #[arg(long, value_name = "FORMAT", default_value = "none", value_parser = PossibleValuesParser::new(QUANTIZATIONS))]
    pub(crate) quantization: String,
    /// Where weights of linear layers are kept: resident (in memory), mapped (in the files, one at a time in memory), or auto:
    /// mapped if they take more than three quarters of the memory
    #[arg(long, value_name = "PLACE", default_value = "auto", value_parser = PossibleValuesParser::new(WEIGHT_PLACES))]
    pub(crate) weights: String,
}

/// Parses a dtype.
fn compute_dtype(name: &str) -> Result<ComputeDtype, String> {
    let names = ComputeDtype::ALL.map(ComputeDtype::name);
    ComputeDtype::from_name(name).ok_or_else(|| format!("expected one of: {}", names.join(", ")))
}

impl ModelOptions {
    /// Replaces names on the hub with folders, and reads the recipe.
    pub(crate) fn locate(&mut self, io: &mut Io<'_>) -> Result<(), CliError> {
        self.model = model_folder(&self.model, io)?;
        self.adapter = self.adapter.take().map(|adapter| adapter_folder(&adapter, io)).transpose()?;
        let recipe = self.recipe.as_deref().map(|path| by_recipe::load(path, io)).transpose()?;
        self.changes = recipe.as_ref().map(tokenizer_changes);
        Ok(())
    }

    /// The files that are read: those of the folders of model and adapter, if they are folders, and the recipe.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let folders = [Some(&self.model), self.adapter.as_ref()].into_iter().flatten();
        let entries = folders.flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
        entries.map(|entry| entry.path()).chain(self.recipe.clone()).collect()
    }

    /// Checks what loading the model needs, without reading weights: cheap, so it comes before data is read.
    pub(crate) fn check(&self) -> Result<CheckedSession, CliError> {
        Ok(check_session(&self.session_options())?)
    }

    /// What a recipe with these options means.
    fn session_options(&self) -> SessionOptions {
        let recipe = Recipe {
            backend: Some(self.backend.clone()),
            device: self.device,
            compute_dtype: self.compute_dtype.name().to_owned(),
            float32_matmul_precision: self.float32_matmul_precision.clone(),
            quantization: self.quantization.clone(),
            weights: self.weights.clone(),
            ..Recipe::default()
        };
        SessionOptions::of_recipe(&recipe, &self.model, self.adapter.clone())
    }

    /// The tokenizer with its chat template: as a recipe says, or the adapter's if it brings one, since a recipe may have
    /// changed the chat template or the end of a turn, or else the model's. Logs what it does otherwise than its files say.
    pub(crate) fn tokenizer(&self, io: &mut Io<'_>) -> Result<TextTokenizer, CliError> {
        let own = self.adapter.as_deref().filter(|adapter| adapter.join("tokenizer.json").is_file());
        let plain = tokenizer_changes(&Recipe::default());
        let tokenizer = match (&self.changes, own) {
            (Some(changes), _) => changes.open(&self.model)?,
            (None, Some(adapter)) => plain.open(adapter)?.with_ends_of(&self.model)?.with_images_of(&self.model)?,
            (None, None) => plain.open(&self.model)?,
        };
        log_warnings(&tokenizer, io);
        Ok(tokenizer)
    }
}

/// Loads a model for scoring and generation, and logs what was passed over in its files.
pub(crate) fn open_model(checked: CheckedSession, io: &mut Io<'_>) -> Result<Box<dyn Session>, CliError> {
    let session = checked.open()?;
    session.notes().iter().for_each(|note| io.note(format_args!("warning: {note}")));
    Ok(session)
}

/// Logs what a tokenizer does otherwise than its files say.
pub(crate) fn log_warnings(tokenizer: &TextTokenizer, io: &mut Io<'_>) {
    tokenizer.warnings().iter().for_each(|warning| io.note(format_args!("{warning}")));
}

/// How to generate.
#[derive(Debug, clap::Args)]
pub(crate) struct SamplingOptions {
    /// Longest response in tokens
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) max_new_tokens: usize,
    /// Sample from the smallest set of tokens with this total probability
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub(crate) top_p: f64,
    /// Sample from this many of the likeliest tokens
    #[arg(long, value_name = "N")]
    pub(crate) top_k: Option<usize>,
    /// For a model of pictures: draw from the logits without a class plus this many times what the class adds (1: no guidance)
    #[arg(long, value_name = "SCALE")]
    pub(crate) guidance: Option<f64>,
    /// Random seed
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub(crate) seed: u64,
}

impl SamplingOptions {
    /// Checks the options. A response ends where the tokenizer says that a turn does.
    pub(crate) fn resolve(
        &self,
        temperature: f64,
        num_samples: usize,
        tokenizer: &TextTokenizer,
    ) -> Result<GenerateOptions, CliError> {
        let positive = |name: &str, holds: bool| {
            if holds { Ok(()) } else { Err(CliError::usage(format!("{name} is out of range"))) }
        };
        positive("--max-new-tokens", self.max_new_tokens > 0)?;
        positive("--top-p", self.top_p > 0.0 && self.top_p <= 1.0)?;
        positive("--top-k", self.top_k != Some(0))?;
        positive("--temperature", temperature >= 0.0 && temperature.is_finite())?;
        let pictures = tokenizer.pictures();
        let guidance = match (self.guidance, pictures) {
            (Some(scale), Some(pictures)) => {
                positive("--guidance", scale.is_finite() && scale >= 0.0)?;
                Some(Guidance { scale, null_prompt: pictures.null_condition() }).filter(|_| scale != 1.0)
            }
            (Some(_), None) => return Err(CliError::usage("--guidance is for models of pictures")),
            (None, _) => None,
        };
        let options = GenerateOptions {
            // A picture has as many tokens as it has places.
            max_new_tokens: pictures.map_or(self.max_new_tokens, |pictures| pictures.length),
            guidance,
            num_samples,
            temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            seed: self.seed,
            ends: tokenizer.turn_ends().clone(),
            ..GenerateOptions::default()
        };
        options.excess().map_or(Ok(options), |problem| Err(CliError::usage(problem)))
    }
}
