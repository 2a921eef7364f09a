//! A model on a device as the loop and the command line see it: no tensors, no backend.

mod files;
mod open;

use std::path::Path;

use collimate_backend::FusedOps;
use collimate_files::ShardSize;
use collimate_hf::{ModelConfig, StorageDtype};
use collimate_model::{
    CausalLm, DropoutKey, ForwardOptions, GenerateOptions, MemoryCosts, RouterLoad, Tape, TokenLogps,
};
use collimate_text::GroupBatch;

use crate::error::TrainError;
use crate::optimizer::{AdamW, StepOptions, clip_factor};

pub use open::{SessionOptions, Training, open_session};

/// What a model is, for summaries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSummary {
    /// `llama`, `mistral`, …
    pub architecture: String,
    /// All parameters, those of an adapter included.
    pub num_parameters: usize,
    /// Parameters that training changes.
    pub num_trainable: usize,
}

/// What one optimizer step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOutcome {
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Whether parameters were changed: not where the norm is not finite or the options say so.
    pub applied: bool,
}

/// A model with its optimizer on one device of one backend.
pub trait Session {
    /// The model's configuration.
    fn config(&self) -> &ModelConfig;

    /// Sizes, for summaries.
    fn summary(&self) -> ModelSummary;

    /// What training it holds in memory.
    fn memory_costs(&self) -> MemoryCosts;

    /// Log-probs of every response token, by group, response and token; `adapters` false leaves an adapter out, and
    /// `dropout` makes the draws of a training step.
    ///
    /// # Errors
    /// A token that the model does not have.
    fn score(
        &mut self,
        batch: &GroupBatch,
        adapters: bool,
        dropout: Option<DropoutKey>,
    ) -> Result<TokenLogps, TrainError>;

    /// A training forward pass; it is kept until [`Session::backward`] brings the coefficients of its responses.
    ///
    /// # Errors
    /// A token that the model does not have.
    fn forward(&mut self, batch: &GroupBatch, options: ForwardOptions) -> Result<TokenLogps, TrainError>;

    /// How all passes since it was last taken spread their tokens over experts; none where the model has none.
    fn take_router_load(&mut self) -> Option<RouterLoad>;

    /// Adds `weight` times the balance loss of a batch, whose load this is, to what the next [`Session::backward`] goes
    /// back from; its gradient with respect to that pass.
    fn balance(&mut self, of_batch: &RouterLoad, weight: f64);

    /// Adds the gradient of `Σ c · logp` over the last forward pass's responses; without one it does nothing.
    fn backward(&mut self, coefficients: &[Vec<f64>]);

    /// Clips the gradient that was gathered, changes the parameters by it, and forgets it.
    fn step(&mut self, options: &StepOptions) -> StepOutcome;

    /// The first trained parameter with a value that is not finite, if there is one.
    fn nonfinite_parameter(&self) -> Option<String>;

    /// Continuations of prompts, by prompt and sample.
    ///
    /// # Errors
    /// A token that the model does not have.
    fn generate(
        &mut self,
        prompts: &[Vec<u32>],
        options: &GenerateOptions,
        progress: &mut (dyn FnMut(usize) + Send),
    ) -> Result<Vec<Vec<Vec<u32>>>, TrainError>;

    /// Writes the adapter, or the whole model where there is none, as Hugging Face and PEFT do.
    ///
    /// # Errors
    /// The folder cannot be written.
    fn save_model(&self, dir: &Path, dtype: StorageDtype, max_shard_size: ShardSize) -> Result<(), TrainError>;

    /// Loads what [`Session::save_model`] wrote as any model or adapter is loaded, and compares every value.
    ///
    /// # Errors
    /// It cannot be read, or a value differs from what the session holds, rounded to that type.
    fn check_saved(&self, dir: &Path, dtype: StorageDtype) -> Result<(), TrainError>;

    /// Writes what training needs to go on: the optimizer's moments and count, in float32.
    ///
    /// # Errors
    /// The folder cannot be written.
    fn save_optimizer(&self, dir: &Path) -> Result<(), TrainError>;

    /// Reads back what [`Session::save_model`] in float32 and [`Session::save_optimizer`] wrote.
    ///
    /// # Errors
    /// A file is missing or is of another model.
    fn load_checkpoint(&mut self, dir: &Path) -> Result<(), TrainError>;
}

/// The one implementation, for any burn backend.
pub(crate) struct BackendSession<B: FusedOps> {
    model: CausalLm<B>,
    optimizer: AdamW<B>,
    tape: Option<Tape<B>>,
    router_load: Option<RouterLoad>,
    /// Where the base model came from, for the adapter's configuration.
    base: String,
}

impl<B: FusedOps> Session for BackendSession<B> {
    fn config(&self) -> &ModelConfig {
        self.model.config()
    }

    fn summary(&self) -> ModelSummary {
        let sizes: Vec<usize> = self.model.parameters().iter().map(|p| p.file_shape.iter().product()).collect();
        ModelSummary {
            architecture: self.config().family.model_type.to_owned(),
            num_parameters: sizes.iter().sum(),
            num_trainable: self.model.trainable().iter().map(|&i| sizes[i]).sum(),
        }
    }

    fn memory_costs(&self) -> MemoryCosts {
        self.model.memory_costs()
    }

    fn score(
        &mut self,
        batch: &GroupBatch,
        adapters: bool,
        dropout: Option<DropoutKey>,
    ) -> Result<TokenLogps, TrainError> {
        let (logps, load) = B::run_pass(|| self.model.score_with_load(batch, adapters, dropout))?;
        self.add_load(load.as_ref());
        Ok(logps)
    }

    fn forward(&mut self, batch: &GroupBatch, options: ForwardOptions) -> Result<TokenLogps, TrainError> {
        let (logps, tape) = B::run_pass(|| self.model.forward(batch, options))?;
        self.add_load(tape.router_load());
        self.tape = Some(tape);
        Ok(logps)
    }

    fn take_router_load(&mut self) -> Option<RouterLoad> {
        self.router_load.take()
    }

    fn balance(&mut self, of_batch: &RouterLoad, weight: f64) {
        if let Some(tape) = &mut self.tape {
            tape.balance(of_batch, weight);
        }
    }

    fn backward(&mut self, coefficients: &[Vec<f64>]) {
        if let Some(tape) = self.tape.take() {
            B::run_pass(|| self.model.backward(tape, coefficients));
        }
    }

    fn step(&mut self, options: &StepOptions) -> StepOutcome {
        B::run_pass(|| self.optimizer_step(options))
    }

    fn nonfinite_parameter(&self) -> Option<String> {
        let is_broken = |&index: &usize| !self.model.download(index).data.iter().all(|value| value.is_finite());
        let broken = self.model.trainable().into_iter().find(is_broken)?;
        Some(self.model.parameters()[broken].name.clone())
    }

    fn generate(
        &mut self,
        prompts: &[Vec<u32>],
        options: &GenerateOptions,
        progress: &mut (dyn FnMut(usize) + Send),
    ) -> Result<Vec<Vec<Vec<u32>>>, TrainError> {
        Ok(B::run_pass(|| self.model.generate(prompts, options, progress))?)
    }

    fn save_model(&self, dir: &Path, dtype: StorageDtype, max_shard_size: ShardSize) -> Result<(), TrainError> {
        files::save_model(&self.model, &self.base, dir, (dtype, max_shard_size))
    }

    fn check_saved(&self, dir: &Path, dtype: StorageDtype) -> Result<(), TrainError> {
        files::check_saved(&self.model, dir, dtype)
    }

    fn save_optimizer(&self, dir: &Path) -> Result<(), TrainError> {
        files::save_optimizer(&self.model, &self.optimizer, dir)
    }

    fn load_checkpoint(&mut self, dir: &Path) -> Result<(), TrainError> {
        files::load_model(&mut self.model, dir)?;
        files::load_optimizer(&self.model, &mut self.optimizer, dir)
    }
}

impl<B: FusedOps> BackendSession<B> {
    fn add_load(&mut self, more: Option<&RouterLoad>) {
        match (&mut self.router_load, more) {
            (Some(load), Some(more)) => load.add(more),
            (load @ None, more) => *load = more.cloned(),
            (Some(_), None) => {}
        }
    }

    fn optimizer_step(&mut self, options: &StepOptions) -> StepOutcome {
        let trainable = self.model.trainable();
        let gradients: Vec<_> = trainable.iter().map(|&i| self.model.take_gradient(i)).collect();
        let norm = B::sum_of_squares(&gradients.iter().flatten().collect::<Vec<_>>()).sqrt();
        if !norm.is_finite() || !options.apply {
            return StepOutcome { grad_norm: norm, applied: false };
        }
        let factor = clip_factor(norm, options.max_grad_norm);
        self.optimizer.begin_step();
        for (&index, gradient) in trainable.iter().zip(gradients) {
            let Some(gradient) = gradient else { continue };
            // Taken out, so that it has one owner and is changed in place.
            let parameter = self.model.take_parameter(index);
            let updated = self.optimizer.update(index, parameter, &gradient, factor, options);
            self.model.set_parameter(index, updated);
        }
        StepOutcome { grad_norm: norm, applied: true }
    }
}

/// The draws of LoRA dropout in a step.
pub(crate) fn dropout_key(seed: u64, step: usize) -> DropoutKey {
    DropoutKey { seed, step: step as u64 }
}
