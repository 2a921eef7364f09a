//! What a session is, without its weights.

use collimate_backend::{DeviceMemory, weight_costs};
use collimate_hf::ModelConfig;
use collimate_model::{MemoryCosts, ParameterCounts, Trainable};
use collimate_peft::LoraConfig;
use collimate_recipe::Recipe;

use crate::allowance::Allowance;
use crate::error::SessionError;
use crate::options::SessionOptions;

/// The model of a session, without its weights.
#[derive(Debug, Clone)]
pub struct Outline {
    /// Its configuration.
    pub config: ModelConfig,
    /// Its adapter, if any.
    pub lora: Option<LoraConfig>,
    /// What of it is trained.
    pub trainable: Trainable,
    /// Memory that it needs.
    pub costs: MemoryCosts,
    /// Numbers of its parameters.
    pub counts: ParameterCounts,
    /// Memory of the device; `None` if it does not say.
    pub device_memory: Option<DeviceMemory>,
}

impl Outline {
    /// A model with an adapter, if any, on a device with so much memory.
    ///
    /// # Errors
    /// The backend is unknown or not compiled in.
    pub(crate) fn new(
        config: ModelConfig,
        lora: Option<LoraConfig>,
        trainable: Trainable,
        options: &SessionOptions,
        device_memory: Option<DeviceMemory>,
    ) -> Result<Self, SessionError> {
        let weights = weight_costs(&options.backend)?;
        Ok(Self {
            costs: MemoryCosts::new(&config, lora.as_ref(), trainable, options.dtype, weights),
            counts: ParameterCounts::new(&config, lora.as_ref(), trainable),
            device_memory,
            config,
            lora,
            trainable,
        })
    }

    /// What a recipe allows the session to hold.
    pub fn allowance(&self, recipe: &Recipe) -> Allowance {
        Allowance::new(recipe, self.device_memory.as_ref())
    }

    /// Bytes of the device's memory, if it says.
    pub(crate) fn memory_bytes(&self) -> Option<u64> {
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
