//! Forward and backward passes over a pack.

use collimate_backend::FusedOps;
use collimate_text::GroupBatch;

use super::CausalLm;
use super::tape::{ForwardOptions, SavedBlock, Tape};
use crate::dropout::DropoutKey;
use crate::engine::{Activations, Gradients};
use crate::error::ModelError;
use crate::routing::{PackLoad, RouterLoad};
use crate::targets::Targets;

/// Log-probs of response tokens in nats, by group, response and token.
pub type TokenLogps = Vec<Vec<Vec<f64>>>;

impl<B: FusedOps> CausalLm<B> {
    /// Scores every response of a batch: log-probs of its tokens in nats.
    ///
    /// Without `adapters` the adapter is ignored, which gives the reference of a LoRA run from the same weights. With a
    /// dropout key, adapter inputs are dropped as in [`CausalLm::forward`].
    ///
    /// # Errors
    /// A token outside the vocabulary, or a position without rotary frequencies.
    pub fn score(
        &self,
        batch: &GroupBatch,
        adapters: bool,
        dropout: Option<DropoutKey>,
    ) -> Result<TokenLogps, ModelError> {
        self.score_with_load(batch, adapters, dropout).map(|(logps, _)| logps)
    }

    /// [`CausalLm::score`], with the pass's router load if the model has experts.
    ///
    /// # Errors
    /// As [`CausalLm::score`].
    pub fn score_with_load(
        &self,
        batch: &GroupBatch,
        adapters: bool,
        dropout: Option<DropoutKey>,
    ) -> Result<(TokenLogps, Option<RouterLoad>), ModelError> {
        self.check(batch)?;
        let dropout = self.dropout(dropout, batch);
        let engine = self.engine(adapters, dropout.as_ref());
        let pack = self.pack(batch);
        let mut load = self.new_load(batch);
        let mut x = engine.embed(pack.tokens.clone());
        for layer in 0..self.config.num_hidden_layers {
            let (y, activations) = engine.block(layer, x, &pack);
            record(&mut load, &activations);
            x = y;
        }
        let targets = Targets::new(batch);
        let logps = targets.nest(&engine.head_scores(&x, &targets));
        Ok((logps, load.map(PackLoad::into_load)))
    }

    /// A forward pass of training: log-probs now, gradients once [`CausalLm::backward`] gets the coefficients.
    ///
    /// # Errors
    /// As [`CausalLm::score`].
    pub fn forward(&self, batch: &GroupBatch, options: ForwardOptions) -> Result<(TokenLogps, Tape<B>), ModelError> {
        self.check(batch)?;
        let dropout = self.dropout(options.dropout, batch);
        let engine = self.engine(true, dropout.as_ref());
        let pack = self.pack(batch);
        let num_blocks = self.config.num_hidden_layers;
        let mut blocks = Vec::with_capacity(num_blocks);
        let mut load = self.new_load(batch);
        let mut x = engine.embed(pack.tokens.clone());
        for layer in 0..num_blocks {
            let (y, activations) = engine.block(layer, x, &pack);
            record(&mut load, &activations);
            blocks.push(match num_blocks - layer <= options.kept_blocks {
                true => SavedBlock::Activations(activations),
                false => SavedBlock::Input(activations.into_input()),
            });
            x = y;
        }
        let targets = Targets::new(batch);
        let (logps, head) = engine.head_forward(&x, &targets, self.trainable[self.index.adapted.head.weight]);
        Ok((targets.nest(&logps), Tape { pack, targets, dropout, blocks, head, load, balance: None }))
    }

    /// Adds the gradient of `Σ c · logp(response)` over the tape's responses to the gradients held by the model.
    ///
    /// `coefficients` are the objective's c_k, by group and response.
    pub fn backward(&mut self, tape: Tape<B>, coefficients: &[Vec<f64>]) {
        let Tape { pack, targets, dropout, mut blocks, head, balance, .. } = tape;
        let mut held = std::mem::take(&mut self.gradients);
        let mut gradients = Gradients { trainable: &self.trainable, held: &mut held, balance: balance.as_ref() };
        let engine = self.engine(true, dropout.as_ref());
        let num_rows = pack.tokens.dims()[0];
        let dy = engine.head_backward(head, &targets, targets.spread(coefficients), num_rows, &mut gradients);
        let ids = &self.index.adapted;
        let trains_embedding = ids.embedding_parameters().any(|id| self.trainable[id]);
        let first_trained = (0..blocks.len()).find(|&layer| gradients.trains(&ids.layers[layer]));
        let lowest = if trains_embedding { 0 } else { first_trained.unwrap_or(blocks.len()) };
        let mut dy = Some(dy);
        for layer in (lowest..blocks.len()).rev() {
            let (Some(saved), Some(dx)) = (blocks.pop(), dy.take()) else { break };
            let activations = match saved {
                SavedBlock::Activations(activations) => activations,
                SavedBlock::Input(x) => engine.activations(layer, x, &pack),
            };
            let wants_input = layer > lowest || trains_embedding;
            dy = engine.block_backward(layer, activations, dx, &pack, wants_input, &mut gradients);
        }
        if let Some(dy) = dy {
            engine.embedding_backward(&pack, dy, &mut gradients);
        }
        self.gradients = held;
    }

    /// An empty load for a pack, if the model has experts.
    fn new_load(&self, batch: &GroupBatch) -> Option<PackLoad> {
        self.config.experts.map(|experts| PackLoad::new(batch, experts.count))
    }
}

fn record<B: FusedOps>(load: &mut Option<PackLoad>, activations: &Activations<B>) {
    if let (Some(load), Some(routing)) = (load, activations.routing()) {
        load.add_layer(routing);
    }
}
