//! An adapter's tensors, and its folder.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use collimate_files::{WriteError, write_atomically};
use collimate_hf::{FAMILIES, HfError, HostTensor, ModelConfig, WRAPPERS};
use collimate_weights::{StorageDtype, write_safetensors};

use crate::config::LoraConfig;
use crate::json::CONFIG_FILE;
use crate::names::{AdapterPart, leaf};
use crate::stacked;

/// The matrices of an adapter.
pub(crate) const WEIGHTS_FILE: &str = "adapter_model.safetensors";

/// A LoRA adapter: its settings and its tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// Rank, scale and targets.
    pub config: LoraConfig,
    /// Matrices, magnitudes and trained copies, by their names in PEFT's file ([`AdapterPart`]).
    pub tensors: BTreeMap<String, HostTensor>,
    /// Tensors that take the place of the base model's own, by their names there: PEFT saves embeddings whose vocabulary
    /// was resized, or that get matrices. They are not trained.
    pub base: BTreeMap<String, HostTensor>,
    /// Whether the vocabulary was resized and the file lacks the new rows of the base, whose place those of the trained
    /// copies take. What is computed with the adapter does not depend on them; a reference without it would.
    pub lacks_base_rows: bool,
}

impl Adapter {
    /// An adapter of matrices A [r, in] and B [out, r] only, by module: `model.layers.0.self_attn.q_proj`.
    pub fn of_factors(
        config: LoraConfig,
        modules: impl IntoIterator<Item = (String, (HostTensor, HostTensor))>,
    ) -> Self {
        let tensors = modules
            .into_iter()
            .flat_map(|(module, (a, b))| [(AdapterPart::A.name(&module), a), (AdapterPart::B.name(&module), b)]);
        Self { config, tensors: tensors.collect(), base: BTreeMap::new(), lacks_base_rows: false }
    }

    /// The matrices A and B of a module, if it has them.
    pub fn factors(&self, module: &str) -> Option<(&HostTensor, &HostTensor)> {
        Some((self.tensors.get(&AdapterPart::A.name(module))?, self.tensors.get(&AdapterPart::B.name(module))?))
    }

    /// The modules that have matrices.
    pub fn modules(&self) -> BTreeSet<&str> {
        let parts = self.tensors.keys().filter_map(|name| AdapterPart::parse(name));
        parts.filter(|(_, part)| *part != AdapterPart::Copy).map(|(module, _)| module).collect()
    }

    /// The model as it is with the adapter beside it: its vocabulary may have been resized.
    pub fn model_config(&self, model: &ModelConfig) -> ModelConfig {
        let embedding = self.base.get(&model.embedding().name);
        match embedding.map(|tensor| tensor.shape[0]).filter(|size| *size != model.vocab_size) {
            Some(size) => model.with_vocab_size(size),
            None => model.clone(),
        }
    }

    /// Writes the adapter for PEFT and [`Adapter::read`]: in float32, with `all-linear` spelled out.
    ///
    /// # Errors
    /// [`HfError`] if the folder or a file cannot be written.
    pub fn write(&self, dir: &Path) -> Result<(), HfError> {
        fs::create_dir_all(dir).map_err(WriteError::at(dir))?;
        let modules = self.modules();
        let base = self.base.iter().map(|(name, tensor)| (self.base_key(name, &modules), tensor.clone()));
        let own = self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone()));
        let tensors = stacked::stack(own.chain(base).collect());
        write_safetensors(&dir.join(WEIGHTS_FILE), tensors, StorageDtype::F32)?;
        // Those that are adapted as parameters are not listed.
        let is_listed = |module: &&&str| {
            !stacked::is_stacked(module) && !self.config.targets_parameter(&format!("{module}.weight"))
        };
        let leaves: BTreeSet<&str> = modules.iter().filter(is_listed).map(|module| leaf(module)).collect();
        // PEFT refuses an adapter with dropout on the bare parameters that transformers 5 uses for experts and routers.
        // Dropout only matters in training, which takes it from the recipe.
        let dropout = if modules.iter().any(|module| is_bare(module)) { 0.0 } else { self.config.dropout };
        let is_inside = |root: &&str| modules.iter().any(|module| module.starts_with(root));
        // Where layers of a tower are adapted too, their names are those that the user gave.
        let is_text = |root: &&str| modules.iter().all(|module| module.starts_with(*root) || *module == "lm_head");
        let root = WRAPPERS.iter().map(|wrapper| wrapper.root).find(is_inside).filter(is_text);
        let json = self.config.to_json(&leaves.into_iter().collect::<Vec<_>>(), root, dropout);
        Ok(write_atomically(&dir.join(CONFIG_FILE), format!("{json:#}\n").as_bytes())?)
    }

    /// PEFT's name for a tensor of the base model that is saved beside the adapter's.
    fn base_key(&self, tensor: &str, modules: &BTreeSet<&str>) -> String {
        let whole = AdapterPart::Copy.name(tensor);
        let (module, kind) = tensor.rsplit_once('.').unwrap_or((tensor, ""));
        let wrapper = match self.tensors.contains_key(&whole) {
            true => "original_module",
            false if modules.contains(module) => "base_layer",
            false => return whole,
        };
        AdapterPart::Copy.name(&format!("{module}.{wrapper}.{kind}"))
    }

    /// The number of values in its tensors.
    pub fn num_parameters(&self) -> usize {
        self.tensors.values().map(|tensor| tensor.data.len()).sum()
    }
}

/// Whether a module is an expert or a router, of any family.
fn is_bare(module: &str) -> bool {
    FAMILIES.iter().any(|family| module.ends_with(family.router_name()) || module.contains(family.experts_name()))
}
