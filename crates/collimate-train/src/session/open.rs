//! Opens a model folder on a device.

use std::collections::BTreeMap;
use std::path::PathBuf;

use collimate_backend::{BackendJob, ComputeDtype, FusedOps, check_dtype, dispatch};
use collimate_hf::{Adapter, HfError, HostTensor, LoraConfig, ModelConfig, WeightFiles};
use collimate_model::{CausalLm, ParameterInfo, Placement, Trainable};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::TrainError;
use crate::optimizer::AdamW;
use crate::session::{BackendSession, Session};

/// What is trained.
#[derive(Debug, Clone, PartialEq)]
pub enum Training {
    /// Nothing: scoring and generation.
    Off,
    /// All parameters of the base model.
    Full,
    /// An adapter: the one given, or a fresh one.
    Lora(LoraConfig),
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
    /// What to train. With [`Training::Lora`] and an adapter, rank and layers are the adapter's; only the dropout is taken
    /// from here.
    pub training: Training,
    /// Seed of a fresh adapter.
    pub seed: u64,
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
            training: Training::Off,
            seed: 0,
        }
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
        check_dtype(&options.backend, options.device, options.dtype)?;
        let config = ModelConfig::from_dir(&options.model)?;
        let weights = WeightFiles::open(&options.model)?;
        weights.check(&config.tensors())?;
        let adapter = options.adapter.as_deref().map(|dir| Adapter::read(dir, &config)).transpose()?;
        let (lora, trainable) = match (&options.training, &adapter) {
            (Training::Lora(wanted), Some(adapter)) => {
                let config = LoraConfig { dropout: wanted.dropout, ..adapter.config.clone() };
                (Some(config), Trainable::Adapter)
            }
            (Training::Lora(wanted), None) => (Some(wanted.clone()), Trainable::Adapter),
            (Training::Off, adapter) => (adapter.as_ref().map(|a| a.config.clone()), Trainable::Nothing),
            (Training::Full, None) => (None, Trainable::Base),
            (Training::Full, Some(_)) => return Err(TrainError::AdapterWithFullTraining),
        };
        Ok(Self {
            config,
            weights,
            adapter: adapter.map(|a| a.modules),
            lora,
            trainable,
            dtype: options.dtype,
            seed: options.seed,
            base: options.model.to_string_lossy().into_owned(),
        })
    }
}

type AdapterModules = BTreeMap<String, (HostTensor, HostTensor)>;

struct Open {
    config: ModelConfig,
    weights: WeightFiles,
    adapter: Option<AdapterModules>,
    lora: Option<LoraConfig>,
    trainable: Trainable,
    dtype: ComputeDtype,
    seed: u64,
    base: String,
}

impl BackendJob for Open {
    type Output = Result<Box<dyn Session>, HfError>;

    fn run<B: FusedOps>(self, device: B::Device) -> Self::Output {
        let Open { config, weights, mut adapter, lora, trainable, dtype, seed, base } = self;
        let model = CausalLm::<B>::new(config, lora, trainable, Placement { device, dtype }, |info| {
            if !info.is_adapter {
                return weights.read(&info.name);
            }
            Ok(match &mut adapter {
                Some(modules) => take_factor(modules, info).unwrap_or_else(|| fresh_factor(info, seed)),
                None => fresh_factor(info, seed),
            })
        })?;
        let optimizer = AdamW::new(model.parameters().len());
        Ok(Box::new(BackendSession { model, optimizer, tape: None, router_load: None, base }))
    }
}

/// Parses `base_model.model.{module}.lora_A.weight` into the module and whether this is the factor A.
pub(super) fn factor_of(name: &str) -> Option<(&str, bool)> {
    let rest = name.strip_prefix("base_model.model.")?.strip_suffix(".weight")?;
    let split = |end: &str, is_a| rest.strip_suffix(end).map(|module| (module, is_a));
    split(".lora_A", true).or_else(|| split(".lora_B", false))
}

fn take_factor(modules: &mut AdapterModules, info: &ParameterInfo) -> Option<HostTensor> {
    let (module, is_a) = factor_of(&info.name)?;
    let (a, b) = modules.get_mut(module)?;
    let factor = if is_a { a } else { b };
    Some(HostTensor { shape: factor.shape.clone(), data: std::mem::take(&mut factor.data) })
}

/// PEFT's initialisation: A uniform in ±1/√in (Kaiming with a = √5), B zero, so that the adapter changes nothing yet.
///
/// The draws depend on the seed and the factor's name only.
fn fresh_factor(info: &ParameterInfo, seed: u64) -> HostTensor {
    let len = info.file_shape.iter().product();
    let data = match factor_of(&info.name) {
        Some((_, true)) => {
            let bound = 1.0 / (info.file_shape[1] as f32).sqrt();
            let mut key = blake3::Hasher::new();
            key.update(b"lora_init").update(&seed.to_le_bytes()).update(info.name.as_bytes());
            let mut rng = ChaCha8Rng::from_seed(*key.finalize().as_bytes());
            (0..len).map(|_| rng.random_range(-bound..bound)).collect()
        }
        _ => vec![0.0; len],
    };
    HostTensor { shape: info.file_shape.clone(), data }
}
