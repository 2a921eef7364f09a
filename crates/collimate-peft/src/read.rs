//! Reads an adapter's folder strictly.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use collimate_hf::{AdapterError, HfError, HostTensor, LinearSpec, ModelConfig};
use collimate_weights::{WeightFiles, pickle_in};

use crate::adapter::{Adapter, WEIGHTS_FILE};
use crate::by_name::{has_name, router_here};
use crate::config::{LoraConfig, LoraTargets, adaptable_modules, all_tensors, embedding_module, module_of};
use crate::names::{AdapterPart, PREFIX};
use crate::stacked::{self, StackedTensor};

/// Longer names are truncated in errors and get no suggestion, whose cost grows with their length.
const MAX_HINT_CHARACTERS: usize = 200;
/// Number of modules to search for a suggestion: those of the first fifty layers.
const MAX_HINT_MODULES: usize = 350;

impl Adapter {
    /// Reads an adapter's folder strictly: every tensor has a place in the model and the right shape, every module has
    /// all its tensors, and no targeted module is missing.
    ///
    /// The tensors say which modules are changed. A pattern of the settings that is not understood is therefore replaced by
    /// the modules' names.
    ///
    /// # Errors
    /// [`HfError`] naming the file and the setting, tensor or module: not a LoRA adapter, pickled, or not of this model.
    pub fn read(dir: &Path, model: &ModelConfig) -> Result<Self, HfError> {
        let mut config = LoraConfig::from_dir(dir)?;
        let path = dir.join(WEIGHTS_FILE);
        if !path.exists() {
            let remedy = "an adapter's folder has its matrices there".to_owned();
            return Err(match pickle_in(dir) {
                Some(path) => HfError::PickledWeights { path },
                None => HfError::MissingFile { path, remedy },
            });
        }
        let weights = WeightFiles::open_file(&path)?;
        let found = Keys::sort(&path, &weights, &config, model)?;
        if !config.is_understood() {
            config.targets = LoraTargets::Names(found.modules().into_iter().map(str::to_owned).collect());
            (config.exclude, config.layers) = (None, None);
        }
        let resized = found.resized(&path, &weights, model)?;
        let was_resized = resized.vocab_size != model.vocab_size;
        let model = &resized;
        found.check(&config, model)?;
        let mut tensors = BTreeMap::new();
        for spec in config.tensors(model) {
            let Some(key) = found.own.get(&spec.name).filter(|key| !found.stacked.contains_key(*key)) else { continue };
            tensors.insert(spec.name.clone(), read_shape(&path, &weights, key, &spec.shape)?);
        }
        for (key, stacked) in &found.stacked {
            tensors.extend(stacked.split(&read_shape(&path, &weights, key, &stacked.spec.shape)?));
        }
        let shapes: BTreeMap<String, Vec<usize>> =
            all_tensors(model).into_iter().map(|spec| (spec.name, spec.shape)).collect();
        let mut base = BTreeMap::new();
        for (name, key) in &found.base {
            let shape = shapes.get(name).cloned().unwrap_or_default();
            base.insert(name.clone(), read_shape(&path, &weights, key, &shape)?);
        }
        let mut adapter = Self { config, tensors, base, lacks_base_rows: false };
        adapter.check_tied(&path, model)?;
        adapter.fill_base(model, was_resized);
        Ok(adapter)
    }

    /// Rejects an output layer that is stored beside a tied embedding and differs from it.
    fn check_tied(&mut self, path: &Path, model: &ModelConfig) -> Result<(), HfError> {
        let (embedding, head) = (model.embedding().name, model.head().name);
        if !model.tie_word_embeddings || !self.base.contains_key(&head) {
            return Ok(());
        }
        match self.base.get(&embedding) {
            Some(tied) if Some(tied) != self.base.get(&head) => {
                let key = AdapterPart::Copy.name(&head);
                let hint = ": the model's output layer is its embedding, and the two that are stored differ".to_owned();
                Err(AdapterError::UnknownKey { path: path.to_owned(), key, hint }.into())
            }
            Some(_) => {
                self.base.remove(&head);
                Ok(())
            }
            None => {
                let tied = self.base.remove(&head);
                self.base.extend(tied.map(|tied| (embedding, tied)));
                Ok(())
            }
        }
    }

    /// Fills in what a resized base lacks, from the trained copies.
    fn fill_base(&mut self, model: &ModelConfig, was_resized: bool) {
        if !was_resized {
            return;
        }
        let names = [Some(model.embedding().name), model.output_layer().map(|spec| spec.name)];
        for name in names.into_iter().flatten() {
            let copy = self.tensors.get(&AdapterPart::Copy.name(&name)).cloned();
            if let (None, Some(copy)) = (self.base.get(&name), copy) {
                self.base.insert(name, copy);
                self.lacks_base_rows = true;
            }
        }
    }
}

/// The keys of an adapter's file, by what they stand for.
struct Keys {
    /// By the adapter's tensor.
    own: BTreeMap<String, String>,
    /// By the base model's tensor.
    base: BTreeMap<String, String>,
    /// Matrices of all experts of a layer, by their keys.
    stacked: BTreeMap<String, StackedTensor>,
    path: PathBuf,
}

impl Keys {
    /// Every key must have a place in the model.
    fn sort(path: &Path, weights: &WeightFiles, config: &LoraConfig, model: &ModelConfig) -> Result<Self, HfError> {
        let modules = adaptable_modules(model);
        let known: BTreeSet<&str> = modules.iter().map(|linear| linear.module.as_str()).collect();
        let tensors: BTreeSet<String> = all_tensors(model).into_iter().map(|spec| spec.name).collect();
        let outer = [model.embedding().name, model.head().name];
        let (own, base) = (BTreeMap::new(), BTreeMap::new());
        let mut keys = Self { own, base, stacked: BTreeMap::new(), path: path.to_owned() };
        let is_targeted = |parameter: &str| config.targets_parameter(parameter);
        let stacked = stacked::tensors(model, is_targeted, |parameter| config.rank_of(parameter));
        let mut stacked: BTreeMap<_, _> =
            stacked.into_iter().map(|tensor| (tensor.spec.name.clone(), tensor)).collect();
        for key in weights.names() {
            if let Some(tensor) = stacked.remove(key) {
                keys.own.extend(tensor.names().map(|name| (name.to_owned(), key.to_owned())));
                keys.stacked.insert(key.to_owned(), tensor);
                continue;
            }
            let unknown = |module: Option<&str>| {
                let (hint, key) = (hint(key, module, &modules), key.chars().take(MAX_HINT_CHARACTERS).collect());
                Err(AdapterError::UnknownKey { path: path.to_owned(), key, hint }.into())
            };
            let Some((rest, part)) = AdapterPart::parse(key) else { return unknown(None) };
            let here = model.wrapper.map(|wrapper| wrapper.name_here(rest));
            let rest = here.as_deref().unwrap_or(rest);
            let router = router_here(model, rest);
            let rest = router.as_deref().unwrap_or(rest);
            if part != AdapterPart::Copy {
                let is_embedding = matches!(part, AdapterPart::EmbeddingA | AdapterPart::EmbeddingB);
                if !known.contains(rest) || is_embedding != (rest == embedding_module(model)) {
                    return unknown(Some(rest));
                }
                keys.own.insert(part.name(rest), key.to_owned());
                continue;
            }
            let (tensor, wrapper) = unwrapped(rest);
            let is_base = match wrapper {
                Some("base_layer" | "original_module") => true,
                Some(_) => false,
                None => !config.is_saved(module_of(&tensor)),
            };
            if !tensors.contains(&tensor) || (is_base && !outer.contains(&tensor)) {
                return unknown(None);
            }
            match is_base {
                true => keys.base.insert(tensor, key.to_owned()),
                false => keys.own.insert(AdapterPart::Copy.name(&tensor), key.to_owned()),
            };
        }
        Ok(keys)
    }

    fn modules(&self) -> BTreeSet<&str> {
        let parts = self.own.keys().filter_map(|name| AdapterPart::parse(name));
        parts.filter(|(_, part)| *part != AdapterPart::Copy).map(|(module, _)| module).collect()
    }

    /// The model with the vocabulary of the embeddings in the file, which must agree on its size.
    fn resized(&self, path: &Path, weights: &WeightFiles, model: &ModelConfig) -> Result<ModelConfig, HfError> {
        let outer = [model.embedding().name, model.head().name];
        let copies = outer.iter().map(|name| self.own.get(&AdapterPart::Copy.name(name)));
        let keys = outer.iter().map(|name| self.base.get(name)).chain(copies).flatten();
        let sizes = keys.filter_map(|key| Some((key, *weights.shape(key)?.first()?)));
        let sizes: Vec<_> = sizes.filter(|(_, size)| *size != model.vocab_size && *size > 0).collect();
        let Some((_, size)) = sizes.first().copied() else { return Ok(model.clone()) };
        let both = outer.iter().all(|name| {
            let has = |key: Option<&String>| key.is_some();
            has(self.base.get(name))
                || has(self.own.get(&AdapterPart::Copy.name(name)))
                || (model.tie_word_embeddings && *name == model.head().name)
        });
        if !both {
            let (key, found) = sizes.first().map(|(key, size)| ((*key).clone(), *size)).unwrap_or_default();
            let (path, width) = (path.to_owned(), model.hidden_size);
            let (expected, found) = (vec![model.vocab_size, width], vec![found, width]);
            return Err(HfError::TensorShape { path, tensor: key, expected, found });
        }
        Ok(model.with_vocab_size(size))
    }

    /// Compares the modules that have tensors with those that should.
    fn check(&self, config: &LoraConfig, model: &ModelConfig) -> Result<(), HfError> {
        let expected: BTreeSet<String> = config.tensors(model).into_iter().map(|spec| spec.name).collect();
        let present = self.modules();
        for name in &expected {
            let Some((module, part)) = AdapterPart::parse(name) else { continue };
            if !self.own.contains_key(name) && present.contains(module) {
                let (path, module, missing) = (self.path.clone(), module.to_owned(), part.label());
                return Err(AdapterError::HalfMissing { path, module, missing }.into());
            }
        }
        let missing = expected.iter().filter(|name| !self.own.contains_key(*name));
        let missing: BTreeSet<&str> =
            missing.filter_map(|name| AdapterPart::parse(name)).map(|(module, _)| module).collect();
        if let Some(first) = missing.first() {
            let (path, module) = (self.path.clone(), (*first).to_owned());
            return Err(AdapterError::ModuleMissing { path, module, num_missing: missing.len() }.into());
        }
        if self.own.is_empty() {
            // The file has no tensors because the targets match nothing: name the target.
            config.target_modules(model)?;
        }
        let mut unexpected = self.own.keys().filter(|name| !expected.contains(*name));
        let Some((key, module, part)) =
            unexpected.find_map(|name| AdapterPart::parse(name).map(|(module, part)| (name, module, part)))
        else {
            return Ok(());
        };
        let hint = match part {
            AdapterPart::Magnitude => ", for the adapter's use_dora is false",
            AdapterPart::Copy => ", for it is not among the adapter's modules_to_save",
            _ if !has_name(model, module) => {
                ", for PEFT 0.21 takes this name for that of experts, and ignores the tensor"
            }
            _ => ", for it is not among the adapter's target_modules",
        };
        Err(AdapterError::UnknownKey { path: self.path.clone(), key: key.clone(), hint: hint.to_owned() }.into())
    }
}

/// A tensor's name without the wrapper that PEFT puts around its module, and the wrapper.
fn unwrapped(name: &str) -> (String, Option<&str>) {
    let parts = name.rsplit_once('.').and_then(|(module, kind)| {
        let (module, wrapper) = module.rsplit_once('.')?;
        let is_wrapper = matches!(wrapper, "base_layer" | "original_module" | "modules_to_save");
        is_wrapper.then(|| (format!("{module}.{kind}"), wrapper))
    });
    parts.map_or_else(|| (name.to_owned(), None), |(tensor, wrapper)| (tensor, Some(wrapper)))
}

fn read_shape(path: &Path, weights: &WeightFiles, key: &str, expected: &[usize]) -> Result<HostTensor, HfError> {
    let tensor = weights.read(key)?;
    if tensor.shape != expected {
        let (path, expected, found) = (path.to_owned(), expected.to_vec(), tensor.shape);
        return Err(HfError::TensorShape { path, tensor: key.to_owned(), expected, found });
    }
    Ok(tensor)
}

/// A guess at what a key that matches nothing was meant to be.
fn hint(key: &str, module: Option<&str>, linears: &[LinearSpec]) -> String {
    let Some(module) = module else {
        return format!(
            ": keys read \"{PREFIX}MODULE{}\" or \"{PREFIX}MODULE{}\", and of the model's own tensors only those of \
             modules_to_save and resized embeddings are read",
            AdapterPart::A.name("").trim_start_matches(PREFIX),
            AdapterPart::B.name("").trim_start_matches(PREFIX),
        );
    };
    if module.len() > MAX_HINT_CHARACTERS || key.len() > 2 * MAX_HINT_CHARACTERS {
        return String::new();
    }
    let nearest =
        linears.iter().take(MAX_HINT_MODULES).min_by_key(|linear| strsim::damerau_levenshtein(&linear.module, module));
    match nearest {
        Some(linear) if linear.module == module && key.contains(AdapterPart::Magnitude.label()) => {
            "; DoRA of embeddings is not supported: merge the adapter with PEFT".to_owned()
        }
        Some(linear) => format!("; the nearest is \"{}\"", linear.module),
        None => String::new(),
    }
}
