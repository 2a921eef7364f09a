//! A model's weights, with or without an adapter.

use collimate_hf::{HfError, HostTensor, ModelConfig};
use collimate_peft::{Adapter, merged_tensor};
use collimate_weights::WeightFiles;

/// A model's weights as written to the file, one tensor at a time, with the adapter's product added.
pub(crate) struct Weights {
    pub(crate) files: WeightFiles,
    /// The configuration of the model in these files.
    pub(crate) config: ModelConfig,
    pub(crate) adapter: Option<Adapter>,
}

impl Weights {
    pub(crate) fn read(&self, name: &str) -> Result<HostTensor, HfError> {
        match &self.adapter {
            None => self.files.read(name),
            Some(adapter) => Ok(merged_tensor(&self.files, adapter, &self.config, name)?.0),
        }
    }
}
