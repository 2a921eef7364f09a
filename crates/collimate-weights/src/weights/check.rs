//! Whether files hold the tensors of a model.

use std::collections::BTreeSet;

use collimate_hf::{HfError, TensorSpec, WRAPPERS};

use super::packed::Storage;
use super::{WeightFiles, names};

/// What [`WeightFiles::check`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WeightCheck {
    /// Tensors that the model needs; all are present.
    pub num_tensors: usize,
    /// Tensors that were ignored: buffers of old files, heads beside the output layer, the output layer of a tied model.
    pub num_ignored: usize,
    /// What was passed over, for the user.
    pub notes: Vec<String>,
}

impl WeightFiles {
    /// Checks that the files hold exactly the `expected` tensors, in the right shapes and in supported types.
    ///
    /// Buffers of old files (`….rotary_emb.inv_freq`), heads beside the output layer (`v_head.…`) and the redundant
    /// `lm_head.weight` of a tied model are ignored and counted; heads and unusual buffers are named in a note.
    ///
    /// # Errors
    /// [`HfError`] naming the first missing, misshapen, unreadable or unexpected tensor.
    pub fn check(&self, expected: &[TensorSpec]) -> Result<WeightCheck, HfError> {
        let is_there = |spec: &TensorSpec| self.holders.contains_key(&spec.name) || self.is_packed(&spec.name);
        let missing: Vec<_> = expected.iter().filter(|spec| !is_there(spec)).collect();
        if let Some(first) = missing.first() {
            let (path, tensor) = (self.path.clone(), first.name.clone());
            return Err(HfError::MissingTensor { path, tensor, num_missing: missing.len() });
        }
        for spec in expected {
            if self.is_packed(&spec.name) {
                self.check_packed(spec)?;
                continue;
            }
            let info = self.info(&spec.name)?.1;
            if info.shape != spec.shape {
                return Err(HfError::TensorShape {
                    path: self.path.clone(),
                    tensor: spec.name.clone(),
                    expected: spec.shape.clone(),
                    found: info.shape.clone(),
                });
            }
            self.readable(&spec.name, info.dtype)?;
        }
        let known: BTreeSet<&str> = expected.iter().map(|spec| spec.name.as_str()).collect();
        // What stands beside a text model is kept as it is, not passed over.
        let wrapper = WRAPPERS.iter().find(|wrapper| expected.iter().any(|spec| wrapper.is_inside(&spec.name)));
        let is_kept = |name: &str| wrapper.is_some_and(|wrapper| !wrapper.is_text(name));
        let is_known = |name: &str| known.contains(name) || is_kept(name) || self.is_sidecar(name, &known);
        let extra: Vec<&str> = self.names().filter(|name| !is_known(name)).collect();
        let parts = names::parts(&known);
        let (passed_over, unexpected): (Vec<&str>, Vec<&str>) =
            extra.iter().copied().partition(|name| names::is_passed_over(name, &parts));
        if let Some(first) = unexpected.first() {
            let (path, tensor) = (self.path.clone(), (*first).to_owned());
            return Err(HfError::UnexpectedTensor { path, tensor, num_unexpected: unexpected.len() });
        }
        let mut notes = self.notes.clone();
        notes.extend(names::passed_over_note(&self.path, &passed_over));
        Ok(WeightCheck { num_tensors: expected.len(), num_ignored: extra.len(), notes })
    }

    /// Checks a packed weight with all that belongs to it, but for its codes.
    fn check_packed(&self, spec: &TensorSpec) -> Result<(), HfError> {
        let shape = <[usize; 2]>::try_from(spec.shape.as_slice()).ok();
        let packed = self.read_packed(&spec.name, shape, Storage::Mapped);
        self.release_weight(&spec.name);
        match (packed?, shape) {
            (Some(_), Some(_)) => Ok(()),
            // Its tensors say that it is packed, and are of no format.
            _ => self.readable(&spec.name, self.info(&spec.name)?.1.dtype),
        }
    }
}
