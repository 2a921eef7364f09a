//! What a session can do, and the only implementation.

use std::path::Path;

use burn::tensor::Tensor;
use collimate_backend::FusedOps;
use collimate_collective::Collective;
use collimate_files::ShardSize;
use collimate_hf::{AdapterError, HfError, ModelConfig};
use collimate_model::{
    CausalLm, DropoutKey, ForwardOptions, GenerateOptions, InputPlace, MemoryCosts, RouterLoad, Tape, TokenLogps,
};
use collimate_text::{EncodedPrompt, GroupBatch};
use collimate_weights::StorageDtype;

use crate::error::SessionError;
use crate::files::{self, BaseModel};
use crate::optimizer::{AdamW, UpdateOptions, UpdateStats};
use crate::outline::ModelSummary;
use crate::sharded::{self, Among, Sharded};

/// A model with its optimizer on one device of one backend.
pub trait Session {
    /// The model's configuration.
    fn config(&self) -> &ModelConfig;

    /// What was passed over or decided about the model's files, for the user.
    fn notes(&self) -> &[String];

    /// The model's sizes.
    fn summary(&self) -> ModelSummary;

    /// Memory needed to train the model.
    fn memory_costs(&self) -> MemoryCosts;

    /// Log-probs of every response token, by group, response and token, in nats. Without `adapters` the adapter is
    /// ignored; `dropout` draws as a training step does.
    ///
    /// # Errors
    /// A token id beyond the model's vocabulary.
    fn score(
        &mut self,
        batch: &GroupBatch,
        adapters: bool,
        dropout: Option<DropoutKey>,
    ) -> Result<TokenLogps, SessionError>;

    /// A training forward pass over packs, block by block, kept until [`Session::backward`] supplies the coefficients of
    /// their responses. Inputs of blocks wait in `inputs`. Log-probs are by pack.
    ///
    /// # Errors
    /// A token id beyond the model's vocabulary; or inputs of blocks cannot be put away.
    fn forward(
        &mut self,
        packs: &[GroupBatch],
        options: ForwardOptions,
        inputs: InputPlace,
    ) -> Result<Vec<TokenLogps>, SessionError>;

    /// Load of the experts over all passes since the last call; `None` for a model without experts.
    fn take_router_load(&mut self) -> Option<RouterLoad>;

    /// Adds `weight` times a balance loss to what the next [`Session::backward`] differentiates. `load` is that of the
    /// whole micro-batch, of which the pass may be a part.
    fn balance(&mut self, load: &RouterLoad, weight: f64);

    /// Accumulates the gradient of `Σ c · logp` over the responses of the last forward pass, given the c by pack. Does
    /// nothing without one.
    ///
    /// # Errors
    /// Inputs of blocks cannot be brought back.
    fn backward(&mut self, coefficients: &[Vec<Vec<f64>>]) -> Result<(), SessionError>;

    /// Clips the accumulated gradient, updates the parameters with it, and clears it. Among several ranks, whose gradients
    /// are added up, all of them call it.
    ///
    /// # Errors
    /// Another rank has ended.
    fn update(&mut self, options: &UpdateOptions, world: &dyn Collective) -> Result<UpdateStats, SessionError>;

    /// Rounds every trained parameter to a storage dtype until [`Session::restore`]. The optimizer's moments are dropped to
    /// make room. Returns whether every value fits; nothing changes if one does not.
    fn round(&mut self, dtype: StorageDtype) -> bool;

    /// Brings back the parameters as they were before [`Session::round`].
    fn restore(&mut self);

    /// Name of the first trained parameter with a non-finite value.
    fn nonfinite_parameter(&self) -> Option<String>;

    /// Token ids of continuations, by prompt and sample. `progress` is called with the number of newly finished prompts.
    ///
    /// # Errors
    /// A token id beyond the model's vocabulary.
    fn generate(
        &mut self,
        prompts: &[EncodedPrompt],
        options: &GenerateOptions,
        progress: &mut (dyn FnMut(usize) + Send),
    ) -> Result<Vec<Vec<Vec<u32>>>, SessionError>;

    /// Writes the adapter as PEFT does, or else the whole model as transformers does, with the tokens that end a turn.
    ///
    /// # Errors
    /// The folder cannot be written.
    fn save_model(&self, dir: &Path, dtype: StorageDtype, max_shard_size: ShardSize) -> Result<(), SessionError>;

    /// Loads what [`Session::save_model`] wrote, like any other model or adapter, and compares every value.
    ///
    /// # Errors
    /// It cannot be read, or a value differs from the session's own, rounded to `dtype`.
    fn check_saved(&self, dir: &Path, dtype: StorageDtype) -> Result<(), SessionError>;

    /// Writes the optimizer's moments and step count, in float32. All ranks call it, and the first one writes.
    ///
    /// # Errors
    /// The folder cannot be written, or another rank has ended.
    fn save_optimizer(&self, dir: &Path, world: &dyn Collective) -> Result<(), SessionError>;

    /// Restores what [`Session::save_model`] in float32 and [`Session::save_optimizer`] wrote, whatever the number of ranks was.
    ///
    /// # Errors
    /// A file is missing or belongs to another model.
    fn load_checkpoint(&mut self, dir: &Path, world: &dyn Collective) -> Result<(), SessionError>;
}

/// The only implementation, generic over burn's backends.
pub(crate) struct BackendSession<B: FusedOps> {
    pub(crate) model: CausalLm<B>,
    pub(crate) optimizer: AdamW<B>,
    pub(crate) tape: Option<Tape<B>>,
    pub(crate) router_load: Option<RouterLoad>,
    pub(crate) base: BaseModel,
    pub(crate) notes: Vec<String>,
    /// Parameters as they were before [`Session::round`].
    pub(crate) unrounded: Vec<(usize, Tensor<B, 2>)>,
    /// Among several ranks, from the first update or checkpoint on.
    pub(crate) sharded: Option<Sharded>,
}

impl<B: FusedOps> Session for BackendSession<B> {
    fn config(&self) -> &ModelConfig {
        self.model.config()
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn summary(&self) -> ModelSummary {
        let sizes: Vec<usize> = self.model.parameters().iter().map(|p| p.file_shape.iter().product()).collect();
        ModelSummary {
            architecture: self.config().model_type().to_owned(),
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
    ) -> Result<TokenLogps, SessionError> {
        if !adapters && self.base.lacks_rows {
            return Err(HfError::from(AdapterError::LacksBaseRows).into());
        }
        let (logps, load) = B::run_pass(|| self.model.score_with_load(batch, adapters, dropout))?;
        self.add_load(load.as_ref());
        Ok(logps)
    }

    fn forward(
        &mut self,
        packs: &[GroupBatch],
        options: ForwardOptions,
        inputs: InputPlace,
    ) -> Result<Vec<TokenLogps>, SessionError> {
        let (logps, tape) = B::run_pass(|| self.model.forward_all(packs, options, inputs))?;
        self.add_load(tape.router_load().as_ref());
        self.tape = Some(tape);
        Ok(logps)
    }

    fn take_router_load(&mut self) -> Option<RouterLoad> {
        self.router_load.take()
    }

    fn balance(&mut self, load: &RouterLoad, weight: f64) {
        if let Some(tape) = &mut self.tape {
            tape.balance(load, weight);
        }
    }

    fn backward(&mut self, coefficients: &[Vec<Vec<f64>>]) -> Result<(), SessionError> {
        let Some(tape) = self.tape.take() else { return Ok(()) };
        Ok(B::run_pass(|| self.model.backward_all(tape, coefficients))?)
    }

    fn update(&mut self, options: &UpdateOptions, world: &dyn Collective) -> Result<UpdateStats, SessionError> {
        if world.size() > 1 {
            // Not as a pass: it waits for other ranks, and would keep a thread from those that are in this process.
            return self.among(world).update(options);
        }
        Ok(B::run_pass(|| self.optimizer.update_all(&mut self.model, options)))
    }

    fn round(&mut self, dtype: StorageDtype) -> bool {
        let trainable = self.model.trainable();
        let fits = |value: &f32| dtype.round(*value).is_finite() || !value.is_finite();
        if !trainable.iter().all(|&index| self.model.download(index).data.iter().all(fits)) {
            return false;
        }
        self.optimizer = AdamW::new(self.model.parameters().len());
        for index in trainable {
            let mut rounded = self.model.download(index);
            self.unrounded.push((index, self.model.take_parameter(index)));
            rounded.data.iter_mut().for_each(|value| *value = dtype.round(*value));
            self.model.load(index, rounded);
        }
        true
    }

    fn restore(&mut self) {
        for (index, value) in self.unrounded.drain(..) {
            self.model.set_parameter(index, value);
        }
    }

    fn nonfinite_parameter(&self) -> Option<String> {
        let is_broken = |&index: &usize| !self.model.download(index).data.iter().all(|value| value.is_finite());
        let broken = self.model.trainable().into_iter().find(is_broken)?;
        Some(self.model.parameters()[broken].name.clone())
    }

    fn generate(
        &mut self,
        prompts: &[EncodedPrompt],
        options: &GenerateOptions,
        progress: &mut (dyn FnMut(usize) + Send),
    ) -> Result<Vec<Vec<Vec<u32>>>, SessionError> {
        Ok(B::run_pass(|| self.model.generate(prompts, options, progress))?)
    }

    fn save_model(&self, dir: &Path, dtype: StorageDtype, max_shard_size: ShardSize) -> Result<(), SessionError> {
        files::save_model(&self.model, &self.base, dir, dtype, max_shard_size)
    }

    fn check_saved(&self, dir: &Path, dtype: StorageDtype) -> Result<(), SessionError> {
        files::check_saved(&self.model, &self.base, dir, dtype)
    }

    fn save_optimizer(&self, dir: &Path, world: &dyn Collective) -> Result<(), SessionError> {
        match &self.sharded {
            Some(sharded) => sharded::save(&self.model, &self.optimizer, sharded, world, dir),
            None if world.rank() > 0 => Ok(()),
            None => files::save_optimizer(&self.model, &self.optimizer, dir),
        }
    }

    fn load_checkpoint(&mut self, dir: &Path, world: &dyn Collective) -> Result<(), SessionError> {
        files::load_model(&mut self.model, dir)?;
        match world.size() {
            1 => files::load_optimizer(&self.model, &mut self.optimizer, dir),
            _ => self.among(world).load(dir),
        }
    }
}

impl<B: FusedOps> BackendSession<B> {
    /// The parts that work among ranks.
    fn among<'a>(&'a mut self, world: &'a dyn Collective) -> Among<'a, B> {
        let sharded = self.sharded.get_or_insert_with(|| Sharded::new(&self.model, world.size()));
        Among { model: &mut self.model, optimizer: &mut self.optimizer, sharded, world }
    }

    fn add_load(&mut self, more: Option<&RouterLoad>) {
        match (&mut self.router_load, more) {
            (Some(load), Some(more)) => load.add(more),
            (load @ None, more) => *load = more.cloned(),
            (Some(_), None) => {}
        }
    }
}
