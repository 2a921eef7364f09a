//! A model's weights, with or without an adapter.

use collimate_hf::{Adapter, HfError, HostTensor, WeightFiles, merged_tensor};

/// A model's weights as written to the file, one tensor at a time, with the adapter's product added.
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
