//! A model's weights, with an adapter in them or without.

use collimate_hf::{Adapter, HfError, HostTensor, WeightFiles, merged_tensor};

/// A model's weights as they go into the file: with the adapter's product added, one tensor at a time.
pub(crate) struct Weights {
    pub(crate) files: WeightFiles,
    pub(crate) adapter: Option<Adapter>,
}

impl Weights {
    pub(crate) fn read(&self, name: &str) -> Result<HostTensor, HfError> {
        match &self.adapter {
            None => self.files.read(name),
            Some(adapter) => Ok(merged_tensor(&self.files, adapter, name)?.0),
        }
    }
}
