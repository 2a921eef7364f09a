//! Which model a session has, and what is made of it.

use std::path::PathBuf;

use collimate_backend::{ComputeDtype, MatmulPrecision};
use collimate_hf::{FrozenVision, ModelConfig};
use collimate_peft::LoraConfig;
use collimate_quantized::Format;
use collimate_recipe::{Recipe, WeightPlace};
use collimate_weights::Storage;

use crate::computing::{backend_name, compute_dtype, matmul_precision, quantization};
use crate::error::SessionError;

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
    /// How exact products of float32 numbers are to be.
    pub matmul_precision: MatmulPrecision,
    /// Format to pack the weights of the base model's linear layers into; weights that are packed in the files stay as they are.
    pub quantization: Option<Format>,
    /// Where weights are kept that passes only read.
    pub weights: WeightPlace,
    /// Parts of an image-and-text model that [`Training::Full`] leaves as they are.
    pub frozen: FrozenVision,
    /// Whether training drops what the family was published with.
    pub published_dropout: bool,
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
            matmul_precision: MatmulPrecision::Highest,
            quantization: None,
            weights: WeightPlace::Resident,
            frozen: FrozenVision::default(),
            published_dropout: false,
            training: Training::Off,
            seed: 0,
            ends: Vec::new(),
        }
    }

    /// Options for scoring and generation as a recipe computes.
    pub fn of_recipe(recipe: &Recipe, model: impl Into<PathBuf>, adapter: Option<PathBuf>) -> Self {
        Self {
            backend: backend_name(recipe).to_owned(),
            device: recipe.device,
            dtype: compute_dtype(recipe),
            matmul_precision: matmul_precision(recipe),
            quantization: quantization(recipe),
            weights: WeightPlace::named(&recipe.weights, recipe.memory_budget),
            published_dropout: recipe.model_dropout == "published",
            frozen: FrozenVision { tower: recipe.freeze.visual, merger: recipe.freeze.merger },
            ..Self::inference(model, adapter)
        }
    }

    /// The configuration with the parts that stay as they are. What training drops is known for it.
    fn with_frozen(&self, config: &ModelConfig) -> Result<ModelConfig, SessionError> {
        let mut config = config.clone();
        if self.published_dropout && config.published_dropout().is_none() {
            let message = format!("is published, and {} was published without any", config.model_type());
            return Err(SessionError::Option { key: "model_dropout", message });
        }
        match &mut config.vision {
            Some(vision) => vision.frozen = self.frozen,
            None if self.frozen != FrozenVision::default() => {
                let message = format!("names parts that {} does not have", config.model_type());
                return Err(SessionError::Option { key: "freeze", message });
            }
            None => {}
        }
        Ok(config)
    }

    /// The configuration with its weights packed as the options ask and the backend can, and kept in this place.
    ///
    /// # Errors
    /// All weights are trained, though they are packed or in files; they are packed in another format already; or the
    /// backend is unknown.
    pub(crate) fn applied_to(&self, config: &ModelConfig, storage: Storage) -> Result<ModelConfig, SessionError> {
        let refused = |message: String| SessionError::Option { key: "quantization", message };
        let stored = config.packing();
        let config = &self.with_frozen(config)?;
        let config = match (self.quantization, stored) {
            (Some(wanted), Some(stored)) if wanted != stored => {
                let (wanted, stored, model) = (wanted.name(), stored.name(), self.model.display());
                return Err(refused(format!("is {wanted}, and the weights in {model} are packed as {stored} already")));
            }
            (Some(wanted), None) => config
                .packed_into(wanted)
                .ok_or_else(|| refused(format!("cannot be {}, which is only read", wanted.name())))?,
            _ => config.clone(),
        };
        if self.training == Training::Full && config.quantization.is_some() {
            let message = "packed weights are not trained: train an adapter (use_peft: true)".to_owned();
            return Err(refused(message));
        }
        let in_files = storage == Storage::Mapped;
        let unusable = match (&self.training, self.quantization.filter(|_| stored.is_none())) {
            (Training::Full, _) => Some("weights that are trained are in memory: train an adapter (use_peft: true)"),
            (_, Some(_)) => Some("the files hold plain numbers, which are packed in memory: leave quantization out"),
            _ => None,
        };
        if let Some(message) = unusable.filter(|_| in_files) {
            return Err(SessionError::Option { key: "weights", message: format!("cannot be mapped: {message}") });
        }
        self.packed_for_backend(ModelConfig { weights_in_files: in_files, ..config })
    }
}
