//! Log-probs of the reference, found in a cache, or computed before the policy changes or by what of it does not change, so
//! that no second model has to be in memory.

mod resolve;
#[cfg(test)]
mod tests;
mod waiting;
mod when;

use std::path::{Path, PathBuf};

use collimate_backend::matmul_precision;
use collimate_cache::{Identity, KERNEL_VERSION, LogpStore, Scorer};
use collimate_peft::Adapter;
use collimate_quantized::Format;
use collimate_recipe::Recipe;
use collimate_text::TokenizedGroup;
use collimate_weights::read_config;

use crate::control::RunContext;
use crate::error::TrainError;
use crate::scoring::BatchScorer;
use collimate_session::{Session, SessionOptions, Training, open_session};
use resolve::Resolver;
pub(crate) use resolve::Visits;
pub(crate) use waiting::Waiting;
use when::can_wait;

/// What the policy is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// The model and adapter that the run starts from.
    Start,
    /// The model without its adapter.
    Base,
    /// Another model, or an adapter on the same model.
    Other(PathBuf),
}

/// A run's reference, and its log-probs known so far.
#[derive(Debug)]
pub(crate) struct Reference {
    source: Source,
    /// How to open it.
    options: SessionOptions,
    /// Whether it may be scored while the policy trains.
    can_wait: bool,
    model: Identity,
    adapter: Option<Identity>,
    scorer: blake3::Hash,
    store: LogpStore,
    notes: Vec<String>,
}

/// BLAKE3 hash of a model's weights and of the settings that affect its log-probs, in hexadecimal.
///
/// # Errors
/// A file of the model cannot be read.
pub(crate) fn model_hash(folder: &Path) -> Result<String, TrainError> {
    Ok(Identity::of_model(folder)?.hash.to_hex().to_string())
}

/// Hashes of the contents of what a run starts from, wherever that is.
#[derive(Debug, Clone)]
pub(crate) struct Origins {
    /// The [`model_hash`] of the recipe's model.
    pub(crate) base: String,
    /// The model with the adapter that training begins with, if any.
    pub(crate) start: String,
    /// The reference; `None` if the objective needs none.
    pub(crate) reference: Option<String>,
}

impl Origins {
    /// Hashes what the reference has not hashed already.
    ///
    /// # Errors
    /// A file of the model or adapter cannot be read.
    pub(crate) fn hash(recipe: &Recipe, reference: Option<&Reference>) -> Result<Self, TrainError> {
        let model = recipe.model()?;
        let known = reference.and_then(|reference| reference.hash_of(model));
        let base = known.map_or_else(|| model_hash(model), Ok)?;
        let adapter = recipe.adapter.as_deref().map(Identity::of_adapter).transpose()?;
        let adapter = adapter.map(|adapter| adapter.hash.to_hex().to_string()).unwrap_or_default();
        let start = short_hash(&format!("{base} {adapter}"));
        Ok(Self { base, start, reference: reference.map(Reference::fingerprint) })
    }
}

fn short_hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

/// A hash of the contents of everything that a recipe's runs start from: model, adapter and reference. It does not depend on
/// where they are.
///
/// # Errors
/// A file of theirs cannot be read.
pub fn hash_of_starts(recipe: &Recipe) -> Result<String, TrainError> {
    let start = Origins::hash(recipe, None)?.start;
    let reference = match recipe.reference.as_deref() {
        None => "start".to_owned(),
        Some(word @ ("start" | "base")) => word.to_owned(),
        Some(folder) if is_adapter(Path::new(folder)) => {
            Identity::of_adapter(Path::new(folder))?.hash.to_hex().to_string()
        }
        Some(folder) => model_hash(Path::new(folder))?,
    };
    Ok(short_hash(&format!("{start} {reference}")))
}

impl Reference {
    /// Hashes the weights of a run's reference and reads the cache, which the first rank alone has. Uses only files; no model
    /// is in memory.
    pub(crate) fn open(recipe: &Recipe, options: &SessionOptions, is_first: bool) -> Result<Self, TrainError> {
        let source = match recipe.reference.as_deref() {
            None | Some("start") => Source::Start,
            Some("base") => Source::Base,
            Some(folder) => Source::Other(folder.into()),
        };
        let can_wait = can_wait(recipe, &source, &options.training)?;
        let start_adapter = options.adapter.clone();
        let options = match &source {
            Source::Start => options.clone(),
            Source::Base => SessionOptions { adapter: None, ..options.clone() },
            Source::Other(folder) => other_options(folder, options),
        };
        let model = Identity::of_model(&options.model)?;
        let adapter = options.adapter.as_deref().map(Identity::of_adapter).transpose()?;
        let base = match (&source, &start_adapter) {
            (Source::Base, Some(dir)) => base_identity(&options.model, dir)?,
            _ => None,
        };
        let scorer = Scorer {
            model: model.hash,
            adapter: adapter.as_ref().or(base.as_ref()).map(|adapter| adapter.hash),
            dtype: options.dtype.name(),
            matmul_precision: matmul_precision(&options.backend, options.matmul_precision)?.name(),
            quantization: options.quantization.map(Format::name),
            backend: &options.backend,
            share_prompt: recipe.share_prompt,
            kernel_version: KERNEL_VERSION,
        }
        .id();
        let (store, note) = match recipe.reference_cache.folder("reference").filter(|_| is_first) {
            Some(folder) => LogpStore::open(&folder, scorer),
            None => (LogpStore::in_memory(scorer), None),
        };
        let mut reference = Self { source, options, can_wait, model, adapter, scorer, store, notes: Vec::new() };
        reference.notes = std::iter::once(reference.describe()).chain(note).collect();
        Ok(reference)
    }

    /// The [`model_hash`] of `folder`, if that is the reference's model.
    pub(crate) fn hash_of(&self, folder: &Path) -> Option<String> {
        (self.model.folder == folder).then(|| self.model.hash.to_hex().to_string())
    }

    /// A hash of everything that log-probs depend on except the tokens.
    pub(crate) fn fingerprint(&self) -> String {
        self.scorer.to_hex()[..16].to_owned()
    }

    /// Lines for the log: which model it is, by hash, and what is wrong with the cache.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether it may be scored while the policy trains ([`Waiting`]).
    pub(crate) fn can_wait(&self) -> bool {
        self.can_wait
    }

    fn describe(&self) -> String {
        let model = self.model.describe();
        match (&self.source, &self.adapter) {
            (Source::Start, Some(adapter)) => {
                format!("reference: the start of the run, {model} with {}", adapter.describe())
            }
            (Source::Start | Source::Base, _) => format!("reference: {model} without an adapter"),
            (Source::Other(_), Some(adapter)) => format!("reference: {}", adapter.describe()),
            (Source::Other(_), None) => format!("reference: {model}"),
        }
    }

    /// Fills in the log-probs of every response of the visited groups, in nats.
    ///
    /// `policy` must still be in its initial state, unless this reference may wait. Only micro-batches with a response missing
    /// from the cache are scored. If they are the micro-batches of training, policy and reference agree bit for bit, and
    /// implicit rewards start at exactly zero.
    pub(crate) fn logps(
        &mut self,
        policy: &mut BatchScorer<'_>,
        visits: &Visits<'_>,
        context: &mut RunContext<'_>,
    ) -> Result<(), TrainError> {
        let adapters = self.source != Source::Base && !self.can_wait;
        let other_options = matches!(self.source, Source::Other(_)).then(|| self.options.clone());
        // Opened only if something is missing from the cache.
        let mut other: Option<Box<dyn Session>> = None;
        let score = &mut |groups: &[TokenizedGroup]| {
            if let (Some(options), None) = (&other_options, &other) {
                other = Some(open_session(options)?);
            }
            match other.as_deref_mut() {
                Some(session) => {
                    BatchScorer { session, budget: policy.budget, stop: policy.stop }.score(groups, adapters, None)
                }
                None => policy.score(groups, adapters, None),
            }
        };
        let Visits { data, micro_batches } = visits;
        let mut numbers = data.no_numbers()?;
        let resolver = Resolver { store: &mut self.store, scorer: &self.scorer, data };
        resolver.resolve(*micro_batches, score, &mut numbers, context)?;
        *data.reference() = Some(numbers);
        Ok(())
    }
}

fn other_options(folder: &Path, options: &SessionOptions) -> SessionOptions {
    let is_adapter = is_adapter(folder);
    SessionOptions {
        model: if is_adapter { options.model.clone() } else { folder.to_owned() },
        adapter: is_adapter.then(|| folder.to_owned()),
        training: Training::Off,
        ..options.clone()
    }
}

/// Whether a folder holds an adapter rather than a model.
fn is_adapter(folder: &Path) -> bool {
    folder.join("adapter_config.json").is_file()
}

/// The identity of an adapter whose file replaces tensors of its base model, on which the reference then depends.
fn base_identity(model: &Path, adapter: &Path) -> Result<Option<Identity>, TrainError> {
    let read = Adapter::read(adapter, &read_config(model)?)?;
    if read.base.is_empty() { Ok(None) } else { Ok(Some(Identity::of_adapter(adapter)?)) }
}
