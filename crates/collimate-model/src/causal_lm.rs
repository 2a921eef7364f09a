//! A decoder and its parameters on one device.

mod images;
mod passes;
mod scales;
mod tape;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use collimate_backend::{ComputeDtype, Factor, FusedOps, Gradient, HostPacked, PackedTensor};
use collimate_hf::{Dropped, HfError, HostTensor, ModelConfig};
use collimate_peft::LoraConfig;
use collimate_scales::Transformer;
use collimate_text::GroupBatch;
use collimate_vision::RowCache;

pub use self::passes::TokenLogps;
pub use self::tape::{ForwardOptions, Tape};
use crate::dropout::{Dropout, DropoutKey};
use crate::engine::{Engine, PackInputs};
use crate::error::ModelError;
use crate::host::{floats, upload};
use crate::parameter_index::{ParameterIndex, ParameterInfo, Trainable};
use collimate_rope::Ropes;

/// The device a model is on and the dtype it computes in.
#[derive(Debug, Clone)]
pub struct Placement<B: Backend> {
    /// The device of its parameters.
    pub device: B::Device,
    /// The dtype of its matrices and activations.
    pub dtype: ComputeDtype,
}

/// A parameter as it was read, in its shape in the file.
#[derive(Debug, Clone)]
pub enum ParameterValue {
    /// Its numbers.
    Dense(HostTensor),
    /// A matrix of plain numbers in its file, which is read as it is loaded.
    Plain(HostPacked),
    /// A frozen weight of a linear layer, which stays packed.
    Packed(HostPacked),
}

impl From<HostTensor> for ParameterValue {
    fn from(tensor: HostTensor) -> Self {
        Self::Dense(tensor)
    }
}

/// A decoder and its parameters: log-probs of responses out, coefficients in, gradients accumulated.
///
/// No autodiff graph is recorded: [`CausalLm::forward`] saves what its backward pass reads, and [`CausalLm::backward`]
/// adds to the gradients held here.
#[derive(Debug)]
pub struct CausalLm<B: FusedOps> {
    pub(crate) config: ModelConfig,
    pub(crate) index: ParameterIndex,
    /// The parameters as forward and backward passes read them.
    pub(crate) params: Vec<Tensor<B, 2>>,
    /// Weights that are held packed, or in the order of products; `params` has an empty matrix in their place.
    pub(crate) packed: Vec<Option<B::Packed>>,
    /// float32 values of the trained parameters that passes read in another dtype.
    masters: Vec<Option<Tensor<B, 2>>>,
    pub(crate) dtype: ComputeDtype,
    pub(crate) ropes: Ropes,
    pub(crate) device: B::Device,
    lora: Option<LoraConfig>,
    pub(crate) trainable: Vec<bool>,
    /// Rows of a tower that is not trained.
    image_rows: RowCache<B>,
    gradients: Vec<Gradient<B>>,
    /// The transformer of a model of token maps in several scales, which takes the place of the decoder.
    pub(crate) scales: Option<Transformer>,
    dropped: Dropped,
}

impl<B: FusedOps> CausalLm<B> {
    /// Builds a model from host tensors.
    ///
    /// `read` returns a parameter by its name and in its shape in the file. It is called once per parameter, so at most one
    /// tensor is in memory twice; one that it leaves in its file is read panel by panel, to the dtype that it is held in. In bfloat16, frozen matrices are held in that dtype only; trained ones also have a
    /// float32 master, which the optimizer updates.
    ///
    /// # Errors
    /// Whatever `read` returns.
    pub fn new<V: Into<ParameterValue>>(
        config: ModelConfig,
        lora: Option<LoraConfig>,
        trainable: Trainable,
        placement: Placement<B>,
        mut read: impl FnMut(&ParameterInfo) -> Result<V, HfError>,
    ) -> Result<Self, HfError> {
        let Placement { device, dtype } = placement;
        let index = ParameterIndex::new(&config, lora.as_ref());
        let trainable: Vec<bool> = index.infos.iter().map(|info| trainable.includes(info)).collect();
        let gradients = vec![None; index.infos.len()];
        let ropes = Ropes::new(&config);
        let (params, masters) = (Vec::with_capacity(gradients.len()), vec![None; gradients.len()]);
        let packed = vec![None; gradients.len()];
        let mut model = Self {
            config,
            index,
            params,
            packed,
            masters,
            dtype,
            ropes,
            device,
            lora,
            trainable,
            image_rows: RowCache::default(),
            gradients,
            scales: None,
            dropped: Dropped::default(),
        };
        for id in 0..model.index.infos.len() {
            let info = &model.index.infos[id];
            let value = read(info)?.into();
            model.params.push(model.empty());
            match value {
                ParameterValue::Dense(tensor) => model.load(id, tensor),
                ParameterValue::Plain(weight) => model.load_plain(id, &weight),
                ParameterValue::Packed(weight) => model.packed[id] = Some(B::Packed::new(weight, &model.device)),
            }
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

    /// Describes each parameter, in the order used everywhere else.
    pub fn parameters(&self) -> &[ParameterInfo] {
        &self.index.infos
    }

    /// Indices of the trained parameters.
    pub fn trainable(&self) -> Vec<usize> {
        (0..self.params.len()).filter(|&id| self.trainable[id]).collect()
    }

    /// A parameter as passes read it; an empty matrix for a weight that is held packed or in the order of products.
    pub fn parameter(&self, index: usize) -> &Tensor<B, 2> {
        &self.params[index]
    }

    /// Moves a trained parameter out, in float32, so that it can be updated in place; [`CausalLm::set_parameter`] must
    /// return it.
    pub fn take_parameter(&mut self, index: usize) -> Tensor<B, 2> {
        let empty = self.empty();
        match self.masters[index].take() {
            Some(master) => master,
            None => std::mem::replace(&mut self.params[index], empty),
        }
    }

    /// Replaces a parameter by a float32 value of the same shape.
    pub fn set_parameter(&mut self, index: usize, value: Tensor<B, 2>) {
        let dtype = self.index.infos[index].dtype(self.dtype);
        if dtype == ComputeDtype::Float32 {
            return self.hold(index, value);
        }
        self.masters[index] = self.trainable[index].then(|| value.clone());
        self.hold(index, value);
    }

    /// Holds a parameter in the dtype that passes read: the weight of a block's linear layer in the order of products, where the
    /// backend has one.
    fn hold(&mut self, index: usize, value: Tensor<B, 2>) {
        let info = &self.index.infos[index];
        let dtype = info.dtype(self.dtype);
        self.packed[index] = if info.transposed { B::prepare(Factor::transpose_of(&value), dtype) } else { None };
        self.params[index] = if self.packed[index].is_some() { self.empty() } else { B::in_dtype(value, dtype) };
    }

    /// Downloads a parameter in its file's shape: a trained one in float32, any other in the dtype that passes read.
    pub fn download(&self, index: usize) -> HostTensor {
        let info = &self.index.infos[index];
        if let (Some(packed), None) = (&self.packed[index], &self.masters[index]) {
            return HostTensor { shape: info.file_shape.clone(), data: floats(packed.unpack(&self.device)) };
        }
        let stored = self.masters[index].as_ref().unwrap_or(&self.params[index]).clone();
        let stored = if info.transposed { stored.transpose() } else { stored };
        HostTensor { shape: info.file_shape.clone(), data: floats(stored) }
    }

    /// Replaces a parameter by a value in its file's shape.
    pub fn load(&mut self, index: usize, value: HostTensor) {
        let value = upload(&self.index.infos[index], value, &self.device);
        self.set_parameter(index, value);
    }

    /// Replaces a parameter by plain numbers in its file.
    fn load_plain(&mut self, index: usize, weight: &HostPacked) {
        let info = &self.index.infos[index];
        let dtype = info.dtype(self.dtype);
        match self.trainable[index] {
            true => self.set_parameter(index, weight.upload(ComputeDtype::Float32, info.transposed, &self.device)),
            false => self.hold(index, weight.upload(dtype, info.transposed, &self.device)),
        }
    }

    /// Sets what training drops at random in the model itself; at first nothing.
    pub fn set_dropped(&mut self, dropped: Dropped) {
        self.dropped = dropped;
    }

    /// Moves out the gradient accumulated for a parameter.
    pub fn take_gradient(&mut self, index: usize) -> Option<Tensor<B, 2>> {
        self.gradients[index].take()
    }

    pub(crate) fn engine<'a>(&'a self, adapters: bool, dropout: Option<&'a Dropout>) -> Engine<'a, B> {
        Engine {
            config: &self.config,
            index: if adapters { &self.index.adapted } else { &self.index.base },
            params: &self.params,
            packed: &self.packed,
            device: &self.device,
            dtype: self.dtype,
            dropout,
            rows: None,
        }
    }

    pub(crate) fn pack(&self, batch: &GroupBatch) -> PackInputs<B> {
        PackInputs::new(batch, &self.config, &self.ropes, &self.device)
    }

    /// Rejects tokens outside the vocabulary and positions without rotary frequencies.
    pub(crate) fn check(&self, batch: &GroupBatch) -> Result<(), ModelError> {
        let vocab_size = self.config.vocab_size;
        let is_condition = |token: &&u32| **token as usize >= vocab_size;
        let beyond = |token: &&u32| **token as usize >= vocab_size + self.config.conditions;
        let responses = batch.groups.iter().flatten().flat_map(|response| &batch.tokens[response.tokens.clone()]);
        // Conditions are read and never predicted.
        if let Some(&token) = batch.tokens.iter().find(beyond).or_else(|| responses.into_iter().find(is_condition)) {
            return Err(ModelError::TokenOutOfRange { token, vocab_size });
        }
        self.check_length(batch.positions.iter().max().map_or(0, |&p| p as usize + 1))
    }

    /// Rejects a sequence longer than its rotary frequencies are defined for.
    pub(crate) fn check_length(&self, length: usize) -> Result<(), ModelError> {
        match self.config.longest_sequence() {
            Some(limit) if length > limit => Err(ModelError::SequenceTooLong { length, limit }),
            _ => Ok(()),
        }
    }

    fn dropout(&self, key: Option<DropoutKey>, batch: &GroupBatch) -> Option<Dropout> {
        let (probability, dropped) = (self.lora.as_ref().map_or(0.0, |lora| lora.dropout), self.dropped);
        let key = key.filter(|_| probability > 0.0 || !dropped.is_none());
        key.map(|key| Dropout::new(probability, dropped, key, batch))
    }
}
