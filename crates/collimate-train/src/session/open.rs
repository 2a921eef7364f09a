//! Opens a model folder on a device.

use std::path::PathBuf;
use std::sync::Arc;

use collimate_backend::{BackendJob, ComputeDtype, FusedOps, check_dtype, device_memory, dispatch};
use collimate_hf::{Adapter, HfError, LoraConfig, ModelConfig, Storage, WeightFiles};
use collimate_model::{CausalLm, Placement, Trainable};
use collimate_quantized::Format;

use crate::error::TrainError;
use crate::optimizer::AdamW;
use crate::session::files::BaseModel;
use crate::session::weights::Files;
use crate::session::{BackendSession, Session};

/// What is trained.
#[derive(Debug, Clone, PartialEq)]
pub enum Training {
    /// Nothing: scoring and generation.
    Off,
    /// All parameters of the base model.
    Full,
    /// An adapter: the one given, or a fresh one.
    Lora(Box<LoraConfig>),
}

/// Which model to open, on which device, and which part of it to train.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionOptions {
    /// Model folder in the Hugging Face layout.
    pub model: PathBuf,
    /// PEFT adapter folder on top of it.
    pub adapter: Option<PathBuf>,
    /// Name of the backend.
    pub backend: String,
    /// Index of the backend's device.
    pub device: usize,
    /// Dtype to compute in.
    pub dtype: ComputeDtype,
    /// Format to pack the weights of the base model's linear layers into; weights that are packed in the files stay as they are.
    pub quantization: Option<Format>,
    /// Where weights are kept that passes only read.
    pub weights: Storage,
    /// What to train. With [`Training::Lora`] and an adapter, rank and layers are the adapter's; only the dropout is taken
    /// from here.
    pub training: Training,
    /// Seed of a fresh adapter.
    pub seed: u64,
    /// Tokens that end a turn, for the files of what is saved.
    pub ends: Vec<u32>,
}

impl SessionOptions {
    /// Options for scoring and generation on the CPU.
    pub fn inference(model: impl Into<PathBuf>, adapter: Option<PathBuf>) -> Self {
        Self {
            model: model.into(),
            adapter,
            backend: "flex".to_owned(),
            device: 0,
            dtype: ComputeDtype::Float32,
            quantization: None,
            weights: Storage::Resident,
            training: Training::Off,
            seed: 0,
            ends: Vec::new(),
        }
    }

    /// The model's configuration, with its weights packed as the options ask and the backend can.
    ///
    /// # Errors
    /// It cannot be read; all weights are trained, though they are packed; they are packed in another format already; or the
    /// backend is unknown.
    pub fn model_config(&self) -> Result<ModelConfig, TrainError> {
        let config = ModelConfig::from_dir(&self.model)?;
        let refused = |message: String| TrainError::RecipeValue { key: "quantization", message };
        let stored = config.packing();
        let config = match (self.quantization, stored) {
            (Some(wanted), Some(stored)) if wanted != stored => {
                let (wanted, stored, model) = (wanted.name(), stored.name(), self.model.display());
                return Err(refused(format!("is {wanted}, and the weights in {model} are packed as {stored} already")));
            }
            (Some(wanted), None) => config
                .packed_into(wanted)
                .ok_or_else(|| refused(format!("cannot be {}, which is only read", wanted.name())))?,
            _ => config,
        };
        if self.training == Training::Full && config.quantization.is_some() {
            let message = "packed weights are not trained: train an adapter (use_peft: true)".to_owned();
            return Err(refused(message));
        }
        let in_files = self.weights == Storage::Mapped;
        let unusable = match (&self.training, self.quantization.filter(|_| stored.is_none())) {
            (Training::Full, _) => Some("weights that are trained are in memory: train an adapter (use_peft: true)"),
            (_, Some(_)) => Some("the files hold plain numbers, which are packed in memory: leave quantization out"),
            _ => None,
        };
        if let Some(message) = unusable.filter(|_| in_files) {
            return Err(TrainError::RecipeValue { key: "weights", message: format!("cannot be mapped: {message}") });
        }
        self.packed_for_backend(ModelConfig { weights_in_files: in_files, ..config })
    }
}

/// Opens a model.
///
/// # Errors
/// The backend or device is missing or cannot compute in this dtype, or the model folder or adapter is broken.
pub fn open_session(options: &SessionOptions) -> Result<Box<dyn Session>, TrainError> {
    let job = Open::check(options)?;
    Ok(dispatch(&options.backend, options.device, job)??)
}

/// Checks what [`open_session`] will need without reading weights: backend and device, configuration, the headers of the
/// weights, the adapter. Cheap, so it comes before anything that takes time.
///
/// # Errors
/// As [`open_session`], except for weights that are not finite.
pub fn check_session(options: &SessionOptions) -> Result<(), TrainError> {
    Open::check(options).map(drop)
}

impl Open {
    fn check(options: &SessionOptions) -> Result<Self, TrainError> {
        // Fails for a backend or a device that is not there, which not every dtype needs.
        device_memory(&options.backend, options.device)?;
        check_dtype(&options.backend, options.device, options.dtype)?;
        let config = options.model_config()?;
        let weights = Arc::new(WeightFiles::open(&options.model)?);
        let checked = weights.check(&config.tensors())?;
        let adapter = options.adapter.as_deref().map(|dir| Adapter::read(dir, &config)).transpose()?;
        let (lora, trainable) = match (&options.training, &adapter) {
            (Training::Lora(wanted), Some(adapter)) => {
                let config = LoraConfig { dropout: wanted.dropout, ..adapter.config.clone() };
                (Some(config), Trainable::Adapter)
            }
            (Training::Lora(wanted), None) => (Some((**wanted).clone()), Trainable::Adapter),
            (Training::Off, adapter) => (adapter.as_ref().map(|a| a.config.clone()), Trainable::Nothing),
            (Training::Full, None) => (None, Trainable::Base),
            (Training::Full, Some(_)) => return Err(TrainError::AdapterWithFullTraining),
        };
        let notes = [config.notes.clone(), checked.notes].concat();
        Ok(Self {
            config: adapter.as_ref().map_or_else(|| config.clone(), |adapter| adapter.model_config(&config)),
            files: Files { weights, adapter },
            lora,
            trainable,
            dtype: options.dtype,
            seed: options.seed,
            base: options.model.to_string_lossy().into_owned(),
            notes,
            ends: options.ends.clone(),
        })
    }
}

struct Open {
    config: ModelConfig,
    files: Files,
    lora: Option<LoraConfig>,
    trainable: Trainable,
    dtype: ComputeDtype,
    seed: u64,
    base: String,
    notes: Vec<String>,
    ends: Vec<u32>,
}

impl BackendJob for Open {
    type Output = Result<Box<dyn Session>, HfError>;

    fn run<B: FusedOps>(self, device: B::Device) -> Self::Output {
        let Open { config, mut files, lora, trainable, dtype, seed, base, ends, notes } = self;
        let base = BaseModel {
            name: base,
            ends,
            replaced: files.adapter.iter().flat_map(|adapter| adapter.base.keys().cloned()).collect(),
            lacks_rows: files.adapter.as_ref().is_some_and(|adapter| adapter.lacks_base_rows),
        };
        let model = CausalLm::<B>::new(config.clone(), lora, trainable, Placement { device, dtype }, |info| {
            if !info.is_adapter {
                return files.weight(info);
            }
            let value = match files.own(&info.name) {
                Some(tensor) => tensor,
                None => files.fresh(info, &config, seed)?,
            };
            Ok(value.into())
        })?;
        let optimizer = AdamW::new(model.parameters().len());
        Ok(Box::new(BackendSession {
            model,
            optimizer,
            tape: None,
            router_load: None,
            base,
            notes,
            unrounded: Vec::new(),
        }))
    }
}
