//! A decoder with its parameters on one device: log-probs of responses out, coefficients in.

use burn::backend::Autodiff;
use burn::backend::autodiff::grads::Gradients;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use collimate_data::GroupBatch;

use crate::config::{ModelConfig, RopeScaling};
use crate::decoder::Decoder;
use crate::dropout::{Dropout, DropoutKey};
use crate::error::ModelError;
use crate::layout::{Layout, ParameterInfo};
use crate::logprob::{Head, Targets};
use crate::pack::Pack;
use crate::peft::LoraConfig;
use crate::rope::Rope;
use crate::weights::HostTensor;

/// Log-probs of response tokens in nats: by group, response and token.
pub type TokenLogps = Vec<Vec<Vec<f64>>>;

/// Which parameters training changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trainable {
    /// None: for scoring and generation.
    Nothing,
    /// All of the base model; there is no adapter.
    Base,
    /// The adapter's factors alone.
    Adapter,
}

/// A decoder and its parameters.
///
/// Parameters live on the plain backend; gradients are tracked for the time of one [`CausalLm::forward`].
#[derive(Debug)]
pub struct CausalLm<B: Backend> {
    pub(crate) config: ModelConfig,
    pub(crate) layout: Layout,
    pub(crate) params: Vec<Tensor<B, 2>>,
    pub(crate) rope: Rope,
    pub(crate) device: B::Device,
    lora: Option<LoraConfig>,
    trainable: Vec<bool>,
    gradients: Vec<Option<Tensor<B, 2>>>,
}

/// A forward pass that waits for its coefficients.
pub struct Tape<B: Backend> {
    targets: Targets,
    /// Final hidden states, [N, D].
    hidden: Tensor<B, 2>,
    state: TapeState<B>,
    dropout: Option<Dropout>,
}

enum TapeState<B: Backend> {
    /// The whole graph is kept.
    Graph { params: Vec<Tensor<Autodiff<B>, 2>>, hidden: Tensor<Autodiff<B>, 2> },
    /// Only the inputs of every block are kept; each block is computed again on the way back.
    Inputs { batch: GroupBatch, inputs: Vec<Tensor<B, 2>> },
}

/// How a training forward pass is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardOptions {
    /// Keep only the inputs of blocks and compute each block again in backward.
    pub recompute: bool,
    /// The draws of LoRA dropout; `None` leaves dropout out.
    pub dropout: Option<DropoutKey>,
}

impl<B: Backend> CausalLm<B> {
    /// Builds a model from host tensors.
    ///
    /// `read` gives each parameter by its file name in its file's shape; it is called once for each, so that no more
    /// than one tensor is held twice.
    ///
    /// # Errors
    /// What `read` returns.
    pub fn new(
        config: ModelConfig,
        lora: Option<LoraConfig>,
        trainable: Trainable,
        device: B::Device,
        mut read: impl FnMut(&ParameterInfo) -> Result<HostTensor, ModelError>,
    ) -> Result<Self, ModelError> {
        let layout = Layout::new(&config, lora.as_ref());
        let params = layout.infos.iter().map(|info| Ok(upload(info, read(info)?, &device)));
        let params = params.collect::<Result<Vec<_>, ModelError>>()?;
        let is_trainable = |info: &ParameterInfo| match trainable {
            Trainable::Nothing => false,
            Trainable::Base => !info.is_adapter,
            Trainable::Adapter => info.is_adapter,
        };
        let trainable: Vec<bool> = layout.infos.iter().map(is_trainable).collect();
        let gradients = vec![None; params.len()];
        let rope = Rope::new(&config);
        Ok(Self { config, layout, params, rope, device, lora, trainable, gradients })
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The adapter's configuration, if it has one.
    pub fn lora(&self) -> Option<&LoraConfig> {
        self.lora.as_ref()
    }

    /// What each parameter is, in the order of all other lists.
    pub fn parameters(&self) -> &[ParameterInfo] {
        &self.layout.infos
    }

    /// Indices of the parameters that training changes.
    pub fn trainable(&self) -> Vec<usize> {
        (0..self.params.len()).filter(|&i| self.trainable[i]).collect()
    }

    /// One parameter as it is stored.
    pub fn parameter(&self, index: usize) -> &Tensor<B, 2> {
        &self.params[index]
    }

    /// Replaces one parameter; the shape must be the same.
    pub fn set_parameter(&mut self, index: usize, value: Tensor<B, 2>) {
        self.params[index] = value;
    }

    /// One parameter in its file's shape.
    pub fn download(&self, index: usize) -> HostTensor {
        let info = &self.layout.infos[index];
        let stored = self.params[index].clone();
        let stored = if info.transposed { stored.transpose() } else { stored };
        HostTensor { shape: info.file_shape.clone(), data: floats(stored) }
    }

    /// Sets one parameter from its file's shape.
    pub fn load(&mut self, index: usize, value: HostTensor) {
        self.params[index] = upload(&self.layout.infos[index], value, &self.device);
    }

    /// Takes the gradient that has been accumulated for a parameter.
    pub fn take_gradient(&mut self, index: usize) -> Option<Tensor<B, 2>> {
        self.gradients[index].take()
    }

    /// Scores every response of a batch: log-probs of its tokens in nats.
    ///
    /// `adapters` false leaves the adapter out, which gives the reference of a LoRA run on the same weights.
    ///
    /// # Errors
    /// A token outside the vocabulary, or positions that the model cannot have.
    pub fn score(&self, batch: &GroupBatch, adapters: bool) -> Result<TokenLogps, ModelError> {
        self.check(batch)?;
        let decoder = self.decoder(&self.params, adapters, None);
        let pack = self.pack::<B>(batch);
        let mut x = decoder.embed(pack.tokens.clone());
        for layer in 0..self.config.num_hidden_layers {
            x = decoder.block(layer, x, &pack);
        }
        let targets = Targets::new(batch);
        let logps = self.head().logps(&decoder.final_norm(x), &targets);
        Ok(targets.nest(&logps))
    }

    /// A forward pass of training: log-probs now, gradients when [`CausalLm::backward`] brings the coefficients.
    ///
    /// # Errors
    /// As [`CausalLm::score`].
    pub fn forward(&self, batch: &GroupBatch, options: ForwardOptions) -> Result<(TokenLogps, Tape<B>), ModelError> {
        self.check(batch)?;
        let dropout = self.dropout(options.dropout);
        let (hidden, state) = if options.recompute {
            self.forward_saving_inputs(batch, dropout.as_ref())
        } else {
            self.forward_keeping_graph(batch, dropout.as_ref())
        };
        let targets = Targets::new(batch);
        let logps = self.head().logps(&hidden, &targets);
        Ok((targets.nest(&logps), Tape { targets, hidden, state, dropout }))
    }

    /// Adds the gradient of `Σ c · logp(response)` over the tape's responses to the gradients held here.
    ///
    /// `coefficients` are by group and response, the c_k of the objective.
    pub fn backward(&mut self, tape: Tape<B>, coefficients: &[Vec<f64>]) {
        let spread = tape.targets.spread(coefficients);
        let head_id = self.layout.head.unwrap_or(self.layout.embedding);
        let head = self.head().backward(&tape.hidden, &tape.targets, &spread, self.trainable[head_id]);
        if let Some(gradient) = head.weight {
            self.accumulate(head_id, gradient);
        }
        match tape.state {
            TapeState::Graph { params, hidden } => {
                let grads = (hidden * Tensor::from_inner(head.hidden)).sum().backward();
                self.accumulate_tracked(&params, &grads);
            }
            TapeState::Inputs { batch, inputs } => {
                self.backward_by_blocks(&batch, inputs, head.hidden, tape.dropout.as_ref());
            }
        }
    }

    pub(crate) fn head(&self) -> Head<B> {
        Head::new(self.params[self.layout.head.unwrap_or(self.layout.embedding)].clone())
    }

    pub(crate) fn decoder<'a, A: Backend>(
        &'a self,
        params: &'a [Tensor<A, 2>],
        adapters: bool,
        dropout: Option<&'a Dropout>,
    ) -> Decoder<'a, A> {
        let adapter_scale = self.lora.as_ref().filter(|_| adapters).map(LoraConfig::scale);
        Decoder { config: &self.config, layout: &self.layout, params, adapter_scale, dropout }
    }

    pub(crate) fn pack<A: Backend<Device = B::Device>>(&self, batch: &GroupBatch) -> Pack<A> {
        let heads = self.config.num_attention_heads;
        Pack::new(batch, &self.rope, &self.config.layer_windows, heads, &self.device)
    }

    pub(crate) fn check(&self, batch: &GroupBatch) -> Result<(), ModelError> {
        if let Some(&token) = batch.tokens.iter().find(|&&t| t as usize >= self.config.vocab_size) {
            return Err(ModelError::TokenOutOfRange { token, vocab_size: self.config.vocab_size });
        }
        let longest = batch.positions.iter().max().map_or(0, |&p| p as usize + 1);
        let trained = self.config.max_position_embeddings;
        if matches!(self.config.rope_scaling, RopeScaling::Dynamic { .. }) && longest > trained {
            return Err(ModelError::SequenceTooLong { length: longest, limit: trained });
        }
        Ok(())
    }

    fn dropout(&self, key: Option<DropoutKey>) -> Option<Dropout> {
        let probability = self.lora.as_ref().map_or(0.0, |lora| lora.dropout);
        key.filter(|_| probability > 0.0).map(|key| Dropout { probability, key })
    }

    fn track(&self) -> Vec<Tensor<Autodiff<B>, 2>> {
        let pairs = self.params.iter().zip(&self.trainable);
        let track = |(param, &trainable): (&Tensor<B, 2>, &bool)| {
            let param = Tensor::from_inner(param.clone());
            if trainable { param.require_grad() } else { param }
        };
        pairs.map(track).collect()
    }

    fn forward_keeping_graph(&self, batch: &GroupBatch, dropout: Option<&Dropout>) -> (Tensor<B, 2>, TapeState<B>) {
        let params = self.track();
        let decoder = self.decoder(&params, true, dropout);
        let pack = self.pack::<Autodiff<B>>(batch);
        let mut x = decoder.embed(pack.tokens.clone());
        for layer in 0..self.config.num_hidden_layers {
            x = decoder.block(layer, x, &pack);
        }
        let hidden = decoder.final_norm(x);
        (hidden.clone().inner(), TapeState::Graph { params, hidden })
    }

    fn forward_saving_inputs(&self, batch: &GroupBatch, dropout: Option<&Dropout>) -> (Tensor<B, 2>, TapeState<B>) {
        let decoder = self.decoder(&self.params, true, dropout);
        let pack = self.pack::<B>(batch);
        let mut inputs = vec![decoder.embed(pack.tokens.clone())];
        for layer in 0..self.config.num_hidden_layers {
            let x = decoder.block(layer, inputs[layer].clone(), &pack);
            inputs.push(x);
        }
        let hidden = decoder.final_norm(inputs[self.config.num_hidden_layers].clone());
        (hidden, TapeState::Inputs { batch: batch.clone(), inputs })
    }

    fn backward_by_blocks(
        &mut self,
        batch: &GroupBatch,
        mut inputs: Vec<Tensor<B, 2>>,
        d_hidden: Tensor<B, 2>,
        dropout: Option<&Dropout>,
    ) {
        let pack = self.pack::<Autodiff<B>>(batch);
        let mut dy = d_hidden;
        // The final norm counts as one more block, the embedding as the last to go back through.
        for layer in (0..=self.config.num_hidden_layers).rev() {
            let Some(input) = inputs.pop() else { break };
            let params = self.track();
            let x = Tensor::<Autodiff<B>, 2>::from_inner(input).require_grad();
            let decoder = self.decoder(&params, true, dropout);
            let y = if layer == self.config.num_hidden_layers {
                decoder.final_norm(x.clone())
            } else {
                decoder.block(layer, x.clone(), &pack)
            };
            let grads = (y * Tensor::from_inner(dy)).sum().backward();
            self.accumulate_tracked(&params, &grads);
            dy = x.grad(&grads).unwrap_or_else(|| x.inner().zeros_like());
        }
        if self.trainable[self.layout.embedding] {
            let tokens = pack.tokens.inner();
            let zeros = self.params[self.layout.embedding].zeros_like();
            let gradient = zeros.select_assign(0, tokens, dy, burn::tensor::IndexingUpdateOp::Add);
            self.accumulate(self.layout.embedding, gradient);
        }
    }

    fn accumulate_tracked(&mut self, params: &[Tensor<Autodiff<B>, 2>], grads: &Gradients) {
        for index in self.trainable() {
            if let Some(gradient) = params[index].grad(grads) {
                self.accumulate(index, gradient);
            }
        }
    }

    fn accumulate(&mut self, index: usize, gradient: Tensor<B, 2>) {
        let sum = match self.gradients[index].take() {
            Some(held) => held + gradient,
            None => gradient,
        };
        self.gradients[index] = Some(sum);
    }
}

/// The numbers of a tensor in row-major order.
pub(crate) fn floats<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

fn upload<B: Backend>(info: &ParameterInfo, value: HostTensor, device: &B::Device) -> Tensor<B, 2> {
    let [rows, columns] = info.stored_shape();
    if !info.transposed {
        return Tensor::from_data(TensorData::new(value.data, [rows, columns]), device);
    }
    let mut data = vec![0.0; value.data.len()];
    for (j, file_row) in value.data.chunks_exact(rows).enumerate() {
        for (i, &v) in file_row.iter().enumerate() {
            data[i * columns + j] = v;
        }
    }
    Tensor::from_data(TensorData::new(data, [rows, columns]), device)
}
