//! Forward and backward passes over a pack.

use burn::tensor::Tensor;
use collimate_backend::{FusedOps, Gradient, PackedTensor};
use collimate_routing::{BalanceGradient, RouterLoad};
use collimate_text::GroupBatch;

use super::CausalLm;
use super::images::without_images;
use super::tape::{ForwardOptions, PackImages, PackTape, SavedBlock, Tape};
use crate::dropout::{Addition, Dropout, DropoutKey};
use crate::engine::{Activations, Gradients, PackInputs};
use crate::error::ModelError;
use crate::kept_inputs::{InputKey, InputPlace};
use crate::parameter_index::LayerIds;
use crate::router_load::PackLoad;
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
        let dropout = self.dropout(dropout, batch);
        if let Some(transformer) = &self.scales {
            return Ok((self.score_pictures(transformer, batch, dropout.as_ref())?, None));
        }
        self.check(batch)?;
        let engine = self.engine(adapters, dropout.as_ref());
        let pack = self.pack(batch);
        let mut load = self.new_load(batch);
        let (mut x, _) = self.with_images(engine.embed_dropped(&pack), batch, adapters, false)?;
        for layer in 0..self.config.num_hidden_layers {
            self.prefetch(layer + 1);
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
        let (logps, tape) = self.forward_all(std::slice::from_ref(batch), options, InputPlace::Device)?;
        Ok((logps.into_iter().flatten().collect(), tape))
    }

    /// [`CausalLm::forward`] of several packs, block by block: all packs go through a block before any goes through the
    /// next, so that a weight is read once. The bits are those of the packs one by one. Inputs of blocks whose activations
    /// are not kept wait in `inputs`. Returns log-probs by pack.
    ///
    /// # Errors
    /// As [`CausalLm::score`]; or an input cannot be put away.
    pub fn forward_all(
        &self,
        batches: &[GroupBatch],
        options: ForwardOptions,
        mut inputs: InputPlace,
    ) -> Result<(Vec<TokenLogps>, Tape<B>), ModelError> {
        if let Some(transformer) = &self.scales {
            let pack = |batch: &GroupBatch| (batch.clone(), self.dropout(options.dropout, batch));
            let pictures: Vec<_> = batches.iter().map(pack).collect();
            let score = |(batch, dropout): &(GroupBatch, Option<Dropout>)| {
                self.score_pictures(transformer, batch, dropout.as_ref())
            };
            let logps = pictures.iter().map(score).collect::<Result<_, _>>()?;
            return Ok((logps, Tape { packs: Vec::new(), blocks: Vec::new(), inputs, pictures }));
        }
        let mut passes = batches.iter().map(|batch| self.begin(batch, options)).collect::<Result<Vec<_>, _>>()?;
        let num_blocks = self.config.num_hidden_layers;
        let mut blocks = Vec::with_capacity(num_blocks);
        for layer in 0..num_blocks {
            self.prefetch(layer + 1);
            let keeps = num_blocks - layer <= options.kept_blocks;
            let mut advance = |(pack, pass): (usize, &mut Pass<B>)| {
                let activations = self.advance(pass, layer);
                Ok(match keeps {
                    true => SavedBlock::Activations(activations),
                    false => SavedBlock::Input(inputs.keep(InputKey { layer, pack }, activations.into_input())?),
                })
            };
            blocks.push(passes.iter_mut().enumerate().map(&mut advance).collect::<Result<_, ModelError>>()?);
        }
        let trains_head = self.trainable[self.index.adapted.head.weight];
        let finish = |pass: Pass<B>| {
            let Pass { pack, targets, dropout, images, load, x } = pass;
            let (logps, head) = self.engine(true, dropout.as_ref()).head_forward(&x, &targets, trains_head);
            (targets.nest(&logps), PackTape { pack, targets, dropout, images, head, load, balance: None })
        };
        let (logps, packs) = passes.into_iter().map(finish).unzip();
        Ok((logps, Tape { packs, blocks, inputs, pictures: Vec::new() }))
    }

    /// Begins to read a block's weights, if they are in a file.
    fn prefetch(&self, layer: usize) {
        let ids = self.index.base.layers.get(layer).into_iter().flat_map(LayerIds::parameters);
        ids.filter_map(|id| self.packed[id].as_ref()).for_each(PackedTensor::prefetch);
    }

    /// Embeds a pack's tokens.
    fn begin(&self, batch: &GroupBatch, options: ForwardOptions) -> Result<Pass<B>, ModelError> {
        self.check(batch)?;
        let (dropout, pack) = (self.dropout(options.dropout, batch), self.pack(batch));
        let x = self.engine(true, dropout.as_ref()).embed_dropped(&pack);
        let (x, tape) = self.with_images(x, batch, true, true)?;
        let rows = batch.images.iter().map(|image| image.tokens.clone()).collect();
        let images = PackImages { rows, tape };
        Ok(Pass { pack, targets: Targets::new(batch), dropout, images, load: self.new_load(batch), x })
    }

    /// Takes a pack through a block; returns what its backward pass reads.
    fn advance(&self, pass: &mut Pass<B>, layer: usize) -> Activations<B> {
        // Moved out so that it has a single owner.
        let x = std::mem::replace(&mut pass.x, self.empty());
        let (y, activations) = self.engine(true, pass.dropout.as_ref()).block(layer, x, &pass.pack);
        record(&mut pass.load, &activations);
        pass.x = y;
        activations
    }

    /// Adds the gradient of `Σ c · logp(response)` over the tape's responses to the gradients held by the model.
    ///
    /// `coefficients` are the objective's c_k, by group and response.
    ///
    /// # Errors
    /// As [`CausalLm::backward_all`]: none for a pass of [`CausalLm::forward`], whose inputs wait on the device.
    pub fn backward(&mut self, tape: Tape<B>, coefficients: &[Vec<f64>]) -> Result<(), ModelError> {
        self.backward_all(tape, &[coefficients.to_vec()])
    }

    /// [`CausalLm::backward`] of several packs, block by block; `coefficients` are by pack, group and response.
    ///
    /// Each parameter's gradient is summed in the order of the packs, as it is when they go back one by one; only for an
    /// output layer that is the trained embedding as well the order is another one.
    ///
    /// # Errors
    /// An input of a block cannot be brought back. The gradients are then those of a part of the blocks.
    pub fn backward_all(&mut self, tape: Tape<B>, coefficients: &[Vec<Vec<f64>>]) -> Result<(), ModelError> {
        if let Some(transformer) = self.scales.clone() {
            let mut packs = tape.pictures.iter().zip(coefficients);
            return packs.try_for_each(|((pack, dropout), c)| {
                self.add_picture_gradients(&transformer, pack, dropout.as_ref(), c)
            });
        }
        let mut held = std::mem::take(&mut self.gradients);
        let done = self.add_gradients(tape, coefficients, &mut held);
        self.gradients = held;
        done
    }

    fn add_gradients(
        &self,
        tape: Tape<B>,
        coefficients: &[Vec<Vec<f64>>],
        held: &mut [Gradient<B>],
    ) -> Result<(), ModelError> {
        let Tape { packs, mut blocks, mut inputs, .. } = tape;
        let mut passes = Vec::with_capacity(packs.len());
        for (tape, coefficients) in packs.into_iter().zip(coefficients) {
            let PackTape { pack, targets, dropout, images, head, balance, .. } = tape;
            let mut gradients = self.gradients(held, balance.as_ref());
            let (engine, num_rows) = (self.engine(true, dropout.as_ref()), pack.tokens.dims()[0]);
            let dy = engine.head_backward(head, &targets, targets.spread(coefficients), num_rows, &mut gradients);
            passes.push(BackwardPass { pack, dropout, images, balance, dy: Some(dy) });
        }
        let lowest = self.lowest_trained(blocks.len());
        for layer in (lowest..blocks.len()).rev() {
            let Some(saved) = blocks.pop() else { break };
            layer.checked_sub(1).into_iter().for_each(|below| self.prefetch(below));
            for (pack, (pass, saved)) in passes.iter_mut().zip(saved).enumerate() {
                let activations = match saved {
                    SavedBlock::Activations(activations) => activations,
                    SavedBlock::Input(kept) => {
                        let x = inputs.fetch(InputKey { layer, pack }, kept, &self.device)?;
                        self.engine(true, pass.dropout.as_ref()).activations(layer, x, &pass.pack)
                    }
                };
                self.retreat(pass, layer, activations, layer > lowest || self.trains_inputs(), held);
            }
        }
        for pass in passes {
            let Some(dy) = pass.dy else { continue };
            if let Some(tape) = pass.images.tape {
                self.images_backward(tape, &dy, held);
            }
            let (engine, mut gradients) = (self.engine(true, pass.dropout.as_ref()), self.gradients(held, None));
            let dy = engine.thinned(without_images(dy, &pass.images.rows), Addition::Embedding);
            engine.embedding_backward(&pass.pack, dy, &mut gradients);
        }
        Ok(())
    }

    /// Takes the gradient of a pack back through a block.
    fn retreat(
        &self,
        pass: &mut BackwardPass<B>,
        layer: usize,
        activations: Activations<B>,
        wants_input: bool,
        held: &mut [Gradient<B>],
    ) {
        let Some(dx) = pass.dy.take() else { return };
        let engine = self.engine(true, pass.dropout.as_ref());
        let mut gradients = self.gradients(held, pass.balance.as_ref());
        pass.dy = engine.block_backward(layer, activations, dx, &pass.pack, wants_input, &mut gradients);
    }

    fn gradients<'a>(&'a self, held: &'a mut [Gradient<B>], balance: Option<&'a BalanceGradient>) -> Gradients<'a, B> {
        Gradients::new(&self.trainable, held, balance)
    }

    fn trains_inputs(&self) -> bool {
        self.index.adapted.input_parameters().any(|id| self.trainable[id])
    }

    /// The block to which gradients must go back.
    fn lowest_trained(&self, num_blocks: usize) -> usize {
        let ids = &self.index.adapted;
        let is_trained = |layer: &usize| ids.layers[*layer].parameters().into_iter().any(|id| self.trainable[id]);
        if self.trains_inputs() { 0 } else { (0..num_blocks).find(is_trained).unwrap_or(num_blocks) }
    }

    /// An empty load for a pack, if the model has experts.
    fn new_load(&self, batch: &GroupBatch) -> Option<PackLoad> {
        self.config.experts.map(|experts| PackLoad::new(batch, experts.count))
    }
}

/// A pack on its way forward.
struct Pass<B: FusedOps> {
    pack: PackInputs<B>,
    targets: Targets,
    dropout: Option<Dropout>,
    images: PackImages<B>,
    load: Option<PackLoad>,
    /// The residual stream, [N, D].
    x: Tensor<B, 2>,
}

/// A pack on its way back.
struct BackwardPass<B: FusedOps> {
    pack: PackInputs<B>,
    dropout: Option<Dropout>,
    images: PackImages<B>,
    balance: Option<BalanceGradient>,
    /// The gradient of the residual stream, [N, D], until nothing below is trained.
    dy: Option<Tensor<B, 2>>,
}

fn record<B: FusedOps>(load: &mut Option<PackLoad>, activations: &Activations<B>) {
    if let (Some(load), Some(routing)) = (load, activations.routing()) {
        load.add_layer(routing);
    }
}
