//! Opens a model folder on a device.

use std::path::PathBuf;

use collimate_backend::{BackendJob, ComputeDtype, FusedOps, check_dtype, device_memory, dispatch};
use collimate_hf::{Adapter, AdapterPart, HfError, HostTensor, LoraConfig, ModelConfig, WeightFiles, row_lengths};
use collimate_model::{CausalLm, ParameterInfo, Placement, Trainable};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::TrainError;
use crate::optimizer::AdamW;
use crate::session::{BackendSession, BaseModel, Session};

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
            training: Training::Off,
            seed: 0,
            ends: Vec::new(),
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
        // Fails for a backend or a device that is not there, which not every dtype needs.
        device_memory(&options.backend, options.device)?;
        check_dtype(&options.backend, options.device, options.dtype)?;
        let config = ModelConfig::from_dir(&options.model)?;
        let weights = WeightFiles::open(&options.model)?;
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
                return files.base(&info.name);
            }
            match files.own(&info.name) {
                Some(tensor) => Ok(tensor),
                None => files.fresh(info, &config, seed),
            }
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

/// Where a model's parameters come from.
struct Files {
    weights: WeightFiles,
    adapter: Option<Adapter>,
}

impl Files {
    /// A tensor of the base model; an adapter may have another one for it.
    fn base(&self, name: &str) -> Result<HostTensor, HfError> {
        match self.adapter.as_ref().and_then(|adapter| adapter.base.get(name)) {
            Some(tensor) => Ok(tensor.clone()),
            None => self.weights.read(name),
        }
    }

    /// Takes a tensor of the adapter's file.
    fn own(&mut self, name: &str) -> Option<HostTensor> {
        self.adapter.as_mut()?.tensors.remove(name)
    }

    /// PEFT's initialization, so that the adapter changes nothing yet: A uniform in ±1/√in (Kaiming with a = √5) and B zero;
    /// for the embedding A zero and B standard normal; DoRA's magnitudes and copies as the base model is.
    ///
    /// The draws depend on the seed and the tensor's name only.
    fn fresh(&self, info: &ParameterInfo, config: &ModelConfig, seed: u64) -> Result<HostTensor, HfError> {
        let shape = info.file_shape.clone();
        let base = |tensor: &str| match config.output_layer() {
            None if tensor == config.head().name => self.base(&config.embedding().name),
            _ => self.base(tensor),
        };
        Ok(match AdapterPart::parse(&info.name) {
            Some((_, AdapterPart::A)) => {
                let bound = 1.0 / (shape[1] as f32).sqrt();
                let mut rng = draws(&info.name, seed);
                let data = (0..shape.iter().product()).map(|_| rng.random_range(-bound..bound)).collect();
                HostTensor { shape, data }
            }
            Some((_, AdapterPart::EmbeddingB)) => {
                let mut rng = draws(&info.name, seed);
                let data = (0..shape.iter().product()).map(|_| normal(&mut rng)).collect();
                HostTensor { shape, data }
            }
            Some((module, AdapterPart::Magnitude)) => row_lengths(&base(&format!("{module}.weight"))?),
            Some((tensor, AdapterPart::Copy)) => base(tensor)?,
            _ => HostTensor::zeros(shape),
        })
    }
}

fn draws(name: &str, seed: u64) -> ChaCha8Rng {
    let mut key = blake3::Hasher::new();
    key.update(b"lora_init").update(&seed.to_le_bytes()).update(name.as_bytes());
    ChaCha8Rng::from_seed(*key.finalize().as_bytes())
}

/// A standard normal number, by Box and Muller.
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let (u, v): (f64, f64) = (rng.random_range(f64::MIN_POSITIVE..1.0), rng.random_range(0.0..1.0));
    ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
}
