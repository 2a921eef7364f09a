//! A decoder with its parameters on one device: log-probs of responses out, coefficients in.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use collimate_backend::{ComputeDtype, FusedOps, Gradient, in_dtype, in_float32};
use collimate_hf::{HfError, HostTensor, LoraConfig, ModelConfig};
use collimate_text::GroupBatch;
use rayon::prelude::*;

use crate::dropout::{Dropout, DropoutKey};
use crate::engine::{Activations, Engine, Gradients, PackInputs};
use crate::error::ModelError;
use crate::head::HeadTape;
use crate::layout::{Layout, ParameterInfo};
use crate::logprob::Targets;
use crate::rope::Rope;
use crate::routing::{BalanceGradient, RouterLoad};

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

impl Trainable {
    /// Whether training changes a parameter.
    pub(crate) fn includes(self, info: &ParameterInfo) -> bool {
        match self {
            Self::Nothing => false,
            Self::Base => !info.is_adapter,
            Self::Adapter => info.is_adapter,
        }
    }
}

/// A decoder and its parameters.
///
/// No graph is recorded: [`CausalLm::forward`] keeps what its way back reads, and [`CausalLm::backward`] adds each
/// gradient to where it is held.
#[derive(Debug)]
pub struct CausalLm<B: FusedOps> {
    pub(crate) config: ModelConfig,
    pub(crate) layout: Layout,
    /// What passes read.
    pub(crate) params: Vec<Tensor<B, 2>>,
    /// The float32 values of those trained parameters that passes read in another type.
    masters: Vec<Option<Tensor<B, 2>>>,
    pub(crate) dtype: ComputeDtype,
    pub(crate) rope: Rope,
    pub(crate) device: B::Device,
    lora: Option<LoraConfig>,
    pub(crate) trainable: Vec<bool>,
    gradients: Vec<Gradient<B>>,
}

/// A forward pass that waits for its coefficients.
pub struct Tape<B: FusedOps> {
    pack: PackInputs<B>,
    targets: Targets,
    dropout: Option<Dropout>,
    /// The input of every block, [N, D].
    inputs: Vec<Tensor<B, 2>>,
    /// What each block kept; the others run again on the way back.
    kept: Vec<Option<Activations<B>>>,
    head: HeadTape<B>,
    /// How tokens are spread over experts, and how often each row counts there.
    load: Option<(RouterLoad, Vec<f32>)>,
    balance: Option<BalanceGradient>,
}

impl<B: FusedOps> Tape<B> {
    /// How the pass spread its tokens over experts, where the model has any.
    pub fn router_load(&self) -> Option<&RouterLoad> {
        self.load.as_ref().map(|(load, _)| load)
    }

    /// Adds `weight` times the balance loss of a whole batch, whose load this is, to what is gone back from; its gradient
    /// with respect to this pack.
    pub fn balance(&mut self, of_batch: &RouterLoad, weight: f64) {
        self.balance = self.load.take().map(|(_, counts)| of_batch.gradient(weight, counts));
    }
}

/// How a training forward pass is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardOptions {
    /// How many blocks, counted from the last, keep all that their way back reads; of the others only the input is kept,
    /// and they run again. The results are the same to the last bit.
    pub kept_blocks: usize,
    /// The draws of LoRA dropout; `None` leaves dropout out.
    pub dropout: Option<DropoutKey>,
}

impl ForwardOptions {
    /// Everything kept, no dropout.
    pub const PLAIN: Self = Self { kept_blocks: usize::MAX, dropout: None };
}

impl<B: FusedOps> CausalLm<B> {
    /// Builds a model from host tensors.
    ///
    /// `read` gives each parameter by its file name in its file's shape; it is called once for each, so that no more
    /// than one tensor is held twice. In bfloat16 matrices are held in that type alone, unless they are trained: then their
    /// float32 values are held too, and the optimizer changes those.
    ///
    /// # Errors
    /// What `read` returns.
    pub fn new(
        config: ModelConfig,
        lora: Option<LoraConfig>,
        trainable: Trainable,
        (device, dtype): (B::Device, ComputeDtype),
        mut read: impl FnMut(&ParameterInfo) -> Result<HostTensor, HfError>,
    ) -> Result<Self, HfError> {
        let layout = Layout::new(&config, lora.as_ref());
        let trainable: Vec<bool> = layout.infos.iter().map(|info| trainable.includes(info)).collect();
        let gradients = vec![None; layout.infos.len()];
        let rope = Rope::new(&config);
        let (params, masters) = (Vec::with_capacity(gradients.len()), vec![None; gradients.len()]);
        let mut model = Self { config, layout, params, masters, dtype, rope, device, lora, trainable, gradients };
        for index in 0..model.layout.infos.len() {
            let info = &model.layout.infos[index];
            let value = upload(info, read(info)?, &model.device);
            model.params.push(model.empty());
            model.set_parameter(index, value);
        }
        Ok(model)
    }

    fn empty(&self) -> Tensor<B, 2> {
        Tensor::empty([0, 0], &self.device)
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

    /// One parameter as passes read it.
    pub fn parameter(&self, index: usize) -> &Tensor<B, 2> {
        &self.params[index]
    }

    /// Takes one trained parameter out in float32, to change it in place; [`CausalLm::set_parameter`] must bring it back.
    pub fn take_parameter(&mut self, index: usize) -> Tensor<B, 2> {
        let empty = self.empty();
        match self.masters[index].take() {
            Some(master) => master,
            None => std::mem::replace(&mut self.params[index], empty),
        }
    }

    /// Replaces one parameter by a float32 value of the same shape.
    pub fn set_parameter(&mut self, index: usize, value: Tensor<B, 2>) {
        let dtype = self.layout.infos[index].dtype(self.dtype);
        if dtype == ComputeDtype::Float32 {
            self.params[index] = value;
            return;
        }
        self.params[index] = in_dtype(value.clone(), dtype.of_tensors());
        self.masters[index] = self.trainable[index].then_some(value);
    }

    /// One parameter in its file's shape; in float32 if it is trained, else as passes read it.
    pub fn download(&self, index: usize) -> HostTensor {
        let info = &self.layout.infos[index];
        let stored = self.masters[index].as_ref().unwrap_or(&self.params[index]).clone();
        let stored = if info.transposed { stored.transpose() } else { stored };
        HostTensor { shape: info.file_shape.clone(), data: floats(stored) }
    }

    /// Sets one parameter from its file's shape.
    pub fn load(&mut self, index: usize, value: HostTensor) {
        let value = upload(&self.layout.infos[index], value, &self.device);
        self.set_parameter(index, value);
    }

    /// Takes the gradient that has been accumulated for a parameter.
    pub fn take_gradient(&mut self, index: usize) -> Option<Tensor<B, 2>> {
        self.gradients[index].take()
    }

    /// Scores every response of a batch: log-probs of its tokens in nats.
    ///
    /// `adapters` false leaves the adapter out, which gives the reference of a LoRA run on the same weights. With the
    /// key of a training step the adapter's inputs are dropped as [`CausalLm::forward`] drops them.
    ///
    /// # Errors
    /// A token outside the vocabulary, or positions that the model cannot have.
    pub fn score(
        &self,
        batch: &GroupBatch,
        adapters: bool,
        dropout: Option<DropoutKey>,
    ) -> Result<TokenLogps, ModelError> {
        self.score_with_load(batch, adapters, dropout).map(|(logps, _)| logps)
    }

    /// The same, and how the pass spread its tokens over experts, where the model has any.
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
            let (y, activations) = engine.block(layer, &x, &pack);
            add_layer(&mut load, &activations);
            x = y;
        }
        let targets = Targets::new(batch);
        let normed = engine.final_norm(&self.head_rows(&x, &targets));
        let logps = targets.nest(&B::target_logps(&normed, self.output_layer(), &targets.tokens));
        Ok((logps, load.map(|(load, _)| load)))
    }

    /// A forward pass of training: log-probs now, gradients when [`CausalLm::backward`] brings the coefficients.
    ///
    /// # Errors
    /// As [`CausalLm::score`].
    pub fn forward(&self, batch: &GroupBatch, options: ForwardOptions) -> Result<(TokenLogps, Tape<B>), ModelError> {
        self.check(batch)?;
        let dropout = self.dropout(options.dropout, batch);
        let engine = self.engine(true, dropout.as_ref());
        let pack = self.pack(batch);
        let num_blocks = self.config.num_hidden_layers;
        let (mut inputs, mut kept) = (Vec::with_capacity(num_blocks), Vec::with_capacity(num_blocks));
        let mut load = self.new_load(batch);
        let mut x = engine.embed(pack.tokens.clone());
        for layer in 0..num_blocks {
            let (y, activations) = engine.block(layer, &x, &pack);
            add_layer(&mut load, &activations);
            inputs.push(std::mem::replace(&mut x, y));
            kept.push((num_blocks - layer <= options.kept_blocks).then_some(activations));
        }
        let targets = Targets::new(batch);
        let (logps, head) = self.head_forward(&engine, &x, &targets);
        Ok((targets.nest(&logps), Tape { pack, targets, dropout, inputs, kept, head, load, balance: None }))
    }

    /// Adds the gradient of `Σ c · logp(response)` over the tape's responses to the gradients held here.
    ///
    /// `coefficients` are by group and response, the c_k of the objective.
    pub fn backward(&mut self, tape: Tape<B>, coefficients: &[Vec<f64>]) {
        let Tape { pack, targets, dropout, mut inputs, mut kept, head, balance, .. } = tape;
        let mut held = std::mem::take(&mut self.gradients);
        let mut gradients = Gradients { trainable: &self.trainable, held: &mut held, balance: balance.as_ref() };
        let engine = self.engine(true, dropout.as_ref());
        let dy = self.head_backward(&engine, (head, &targets), coefficients, pack.tokens.dims()[0], &mut gradients);
        let trains_embedding = self.trainable[self.layout.embedding];
        let last_wanted = (0..inputs.len()).find(|&layer| gradients.trains(&self.layout.layers[layer]));
        let lowest = if trains_embedding { 0 } else { last_wanted.unwrap_or(inputs.len()) };
        let mut dy = Some(dy);
        for layer in (lowest..inputs.len()).rev() {
            let (Some(x), Some(activations), Some(dx)) = (inputs.pop(), kept.pop(), dy.take()) else { break };
            let activations = activations.unwrap_or_else(|| engine.activations(layer, &x, &pack));
            let wants_input = layer > lowest || trains_embedding;
            dy = engine.block_backward(layer, (&x, activations), dx, &pack, wants_input, &mut gradients);
        }
        if let (Some(gradient), Some(dy)) = (gradients.of(self.layout.embedding), dy) {
            let dy = engine.scaled_embedding(in_float32(dy));
            let zero = || engine.zero_gradient(self.layout.embedding);
            let tokens: Vec<u32> = pack.tokens.into_data().iter::<i64>().map(|token| token as u32).collect();
            *gradient = Some(B::add_rows(gradient.take().unwrap_or_else(zero), &tokens, &dy));
        }
        self.gradients = held;
    }

    pub(crate) fn engine<'a>(&'a self, adapters: bool, dropout: Option<&'a Dropout>) -> Engine<'a, B> {
        let adapter_scale = self.lora.as_ref().filter(|_| adapters).map(LoraConfig::scale);
        Engine {
            config: &self.config,
            layout: &self.layout,
            params: &self.params,
            dtype: self.dtype,
            adapter_scale,
            dropout,
            rows: None,
        }
    }

    pub(crate) fn pack(&self, batch: &GroupBatch) -> PackInputs<B> {
        PackInputs::new(batch, &self.config, &self.rope, &self.device)
    }

    pub(crate) fn check(&self, batch: &GroupBatch) -> Result<(), ModelError> {
        if let Some(&token) = batch.tokens.iter().find(|&&t| t as usize >= self.config.vocab_size) {
            return Err(ModelError::TokenOutOfRange { token, vocab_size: self.config.vocab_size });
        }
        self.check_length(batch.positions.iter().max().map_or(0, |&p| p as usize + 1))
    }

    /// Whether a sequence of this length has frequencies.
    pub(crate) fn check_length(&self, length: usize) -> Result<(), ModelError> {
        match self.config.longest_sequence() {
            Some(limit) if length > limit => Err(ModelError::SequenceTooLong { length, limit }),
            _ => Ok(()),
        }
    }

    /// An empty load, and how often each row counts in it: a prompt once for each of its responses in the pack.
    fn new_load(&self, batch: &GroupBatch) -> Option<(RouterLoad, Vec<f32>)> {
        let experts = self.config.experts?;
        let mut counts = vec![0.0; batch.num_tokens()];
        for response in batch.responses() {
            for rows in [&response.prompt, &response.tokens] {
                counts[rows.clone()].iter_mut().for_each(|count| *count += 1.0);
            }
        }
        Some((RouterLoad::new(experts.count), counts))
    }

    fn dropout(&self, key: Option<DropoutKey>, batch: &GroupBatch) -> Option<Dropout> {
        let probability = self.lora.as_ref().map_or(0.0, |lora| lora.dropout);
        key.filter(|_| probability > 0.0).map(|key| Dropout::new(probability, key, batch))
    }
}

fn add_layer<B: FusedOps>(load: &mut Option<(RouterLoad, Vec<f32>)>, activations: &Activations<B>) {
    if let (Some((load, counts)), Some(routing)) = (load, activations.routing()) {
        load.add_layer(routing, counts);
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
    Tensor::from_data(TensorData::new(transpose(&value.data, rows, columns), [rows, columns]), device)
}

/// The transpose of a matrix stored by rows as [columns, rows], in blocks of a cache line, on all threads.
fn transpose(data: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const BLOCK: usize = 16;
    let mut transposed = vec![0.0; data.len()];
    transposed.par_chunks_mut((BLOCK * columns).max(1)).enumerate().for_each(|(block, out)| {
        let first = block * BLOCK;
        let count = out.len() / columns;
        for (j, file_row) in data.chunks_exact(rows).enumerate() {
            for (i, &value) in file_row[first..first + count].iter().enumerate() {
                out[i * columns + j] = value;
            }
        }
    });
    transposed
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    fn a_transpose_has_rows_for_columns(#[values(1, 15, 16, 40)] rows: usize, #[values(1, 3, 33)] columns: usize) {
        let data: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
        let transposed = transpose(&data, rows, columns);
        for i in 0..rows {
            for j in 0..columns {
                assert_eq!(transposed[i * columns + j], data[j * rows + i]);
            }
        }
    }
}
