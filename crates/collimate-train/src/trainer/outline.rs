//! What a model's configuration alone says about training it.

use collimate_backend::DeviceMemory;
use collimate_hf::{Adapter, LoraConfig, ModelConfig};
use collimate_model::{MemoryCosts, ParameterCounts, Trainable};
use collimate_recipe::Recipe;

use crate::error::TrainError;
use crate::packs::Allowance;
use crate::session::{SessionOptions, Training};

/// The model of a run, without its weights.
pub(super) struct Outline {
    pub(super) config: ModelConfig,
    pub(super) costs: MemoryCosts,
    pub(super) counts: ParameterCounts,
    /// Memory of the device; `None` if it does not say.
    pub(super) device_memory: Option<DeviceMemory>,
}

impl Outline {
    /// What the recipe allows the run to hold.
    pub(super) fn allowance(&self, recipe: &Recipe) -> Allowance {
        Allowance::new(recipe, self.device_memory.as_ref())
    }

    /// Reads the configurations of model and adapter, and asks the device for its memory.
    ///
    /// # Errors
    /// A configuration cannot be used, or an adapter is given and all weights are trained.
    pub(super) fn read(session: &SessionOptions) -> Result<Self, TrainError> {
        let (config, lora, trainable) = trained(session)?;
        Ok(Self {
            costs: MemoryCosts::new(&config, lora.as_ref(), trainable, session.dtype),
            counts: ParameterCounts::new(&config, lora.as_ref(), trainable),
            device_memory: collimate_backend::device_memory(&session.backend, session.device)?,
            config,
        })
    }
}

/// The model, the adapter that is trained, if any, and what training changes.
fn trained(session: &SessionOptions) -> Result<(ModelConfig, Option<LoraConfig>, Trainable), TrainError> {
    let config = session.model_config()?;
    Ok(match (&session.training, &session.adapter) {
        (Training::Lora(_), Some(adapter)) => {
            let adapter = Adapter::read(adapter, &config)?;
            (adapter.model_config(&config), Some(adapter.config), Trainable::Adapter)
        }
        (Training::Lora(lora), None) => (config, Some((**lora).clone()), Trainable::Adapter),
        (_, Some(_)) => return Err(TrainError::AdapterWithFullTraining),
        _ => (config, None, Trainable::Base),
    })
}
