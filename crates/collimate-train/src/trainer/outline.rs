//! What a model's configuration alone says about training it.

use collimate_hf::{LoraConfig, ModelConfig};
use collimate_model::{MemoryCosts, ParameterCounts, Trainable};

use crate::error::TrainError;
use crate::session::{SessionOptions, Training};

/// The model of a run, without its weights.
pub(super) struct Outline {
    pub(super) config: ModelConfig,
    pub(super) costs: MemoryCosts,
    pub(super) counts: ParameterCounts,
    /// Memory of the device; `None` if it does not say.
    pub(super) device_memory: Option<u64>,
}

impl Outline {
    /// Reads the configurations of model and adapter, and asks the device for its memory.
    ///
    /// # Errors
    /// A configuration cannot be used, or an adapter is given and all weights are trained.
    pub(super) fn read(session: &SessionOptions) -> Result<Self, TrainError> {
        let config = ModelConfig::from_dir(&session.model)?;
        let (lora, trainable) = trained(session)?;
        Ok(Self {
            costs: MemoryCosts::new(&config, lora.as_ref(), trainable, session.dtype),
            counts: ParameterCounts::new(&config, lora.as_ref(), trainable),
            device_memory: collimate_backend::device_memory(&session.backend, session.device)?,
            config,
        })
    }
}

/// The adapter that is trained, if any, and what training changes.
fn trained(session: &SessionOptions) -> Result<(Option<LoraConfig>, Trainable), TrainError> {
    Ok(match (&session.training, &session.adapter) {
        (Training::Lora(_), Some(adapter)) => (Some(LoraConfig::from_dir(adapter)?), Trainable::Adapter),
        (Training::Lora(config), None) => (Some(config.clone()), Trainable::Adapter),
        (_, Some(_)) => return Err(TrainError::AdapterWithFullTraining),
        _ => (None, Trainable::Base),
    })
}
