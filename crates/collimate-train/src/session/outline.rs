//! What a session is, without its weights.

use collimate_backend::{DeviceMemory, unpacking_bytes};
use collimate_hf::{LoraConfig, ModelConfig};
use collimate_model::{MemoryCosts, ParameterCounts, Trainable};
use collimate_recipe::Recipe;

use crate::error::TrainError;
use crate::packs::Allowance;
use crate::session::options::SessionOptions;

/// The model of a session, without its weights.
#[derive(Debug, Clone)]
pub(crate) struct Outline {
    pub(crate) config: ModelConfig,
    pub(crate) lora: Option<LoraConfig>,
    pub(crate) trainable: Trainable,
    pub(crate) costs: MemoryCosts,
    pub(crate) counts: ParameterCounts,
    /// Memory of the device; `None` if it does not say.
    pub(crate) device_memory: Option<DeviceMemory>,
}

impl Outline {
    /// A model with an adapter, if any, on a device with so much memory.
    ///
    /// # Errors
    /// The backend is unknown or not compiled in.
    pub(super) fn new(
        config: ModelConfig,
        lora: Option<LoraConfig>,
        trainable: Trainable,
        options: &SessionOptions,
        device_memory: Option<DeviceMemory>,
    ) -> Result<Self, TrainError> {
        let unpacking = unpacking_bytes(&options.backend)?;
        Ok(Self {
            costs: MemoryCosts::new(&config, lora.as_ref(), trainable, options.dtype, unpacking),
            counts: ParameterCounts::new(&config, lora.as_ref(), trainable),
            device_memory,
            config,
            lora,
            trainable,
        })
    }

    /// What a recipe allows the session to hold.
    pub(crate) fn allowance(&self, recipe: &Recipe) -> Allowance {
        Allowance::new(recipe, self.device_memory.as_ref())
    }

    /// Bytes of the device's memory, if it says.
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        self.device_memory.as_ref().map(|memory| memory.bytes)
    }
}

/// Sizes of a model, for summaries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSummary {
    /// `llama`, `mistral`, …
    pub architecture: String,
    /// All parameters, including an adapter's.
    pub num_parameters: usize,
    /// Parameters that training changes.
    pub num_trainable: usize,
}
