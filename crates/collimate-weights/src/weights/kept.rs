//! Tensors beside a text model, which are written again as they are.

use std::collections::BTreeSet;

use collimate_hf::ModelConfig;
use safetensors::Dtype;

use super::WeightFiles;

/// A tensor that is kept as it is in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptTensor<'a> {
    /// Its name in the file.
    pub name: &'a str,
    /// Its type.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: &'a [usize],
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl WeightFiles {
    /// The tensors of an image-and-text folder that are not its text model's: the tower, the projector; and the tables of a model
    /// of token maps. None in any other folder.
    pub fn kept(&self, config: &ModelConfig) -> Vec<KeptTensor<'_>> {
        let own: BTreeSet<String> = match config.scales {
            Some(_) => config.tensors().into_iter().map(|spec| spec.name).collect(),
            None => BTreeSet::new(),
        };
        let is_computed = |name: &str| config.vision.as_ref().is_some_and(|vision| vision.is_inside(name));
        let is_other = |name: &str| match config.wrapper {
            Some(wrapper) => !wrapper.is_text(name) && !is_computed(name),
            None => config.keeps_others() && !own.contains(name),
        };
        let others = self.holders.iter().filter(|(name, _)| is_other(name));
        let mut kept = Vec::new();
        for (name, holder) in others {
            let file = &self.files[holder.file];
            let name = holder.stored.as_deref().unwrap_or(name);
            let Some(info) = file.header.info(name) else { continue };
            let bytes = &file.bytes[file.range(info)];
            kept.push(KeptTensor { name, dtype: info.dtype, shape: &info.shape, bytes });
        }
        kept
    }

    /// The name under which a tensor of the text model is written beside those that are kept: the one that it has there, if it
    /// is there.
    pub(crate) fn stored_name(&self, config: &ModelConfig, name: &str) -> String {
        let Some(wrapper) = config.wrapper else { return name.to_owned() };
        if let Some(holder) = self.holders.get(name).filter(|holder| holder.part.is_none()) {
            return holder.stored.as_deref().unwrap_or(name).to_owned();
        }
        // An output layer that the folder has none of goes with the others.
        let embedding = self.holders.get(&config.embedding().name);
        match embedding.and_then(|embedding| embedding.stored.as_deref()) {
            Some(_) => wrapper.stored_name(name),
            None => name.to_owned(),
        }
    }
}
