//! Opens a model folder on a device.

use std::sync::Arc;

use collimate_backend::{
    BackendError, BackendJob, ComputeDtype, DeviceMemory, FusedOps, check_dtype, device_memory, dispatch,
    matmul_precision, multiplies_in, set_float32_matmul_precision,
};
use collimate_hf::{HfError, ModelConfig};
use collimate_model::{CausalLm, Placement, Trainable};
use collimate_peft::{Adapter, LoraConfig};
use collimate_progress::format_bytes;
use collimate_recipe::{MemoryBudget, WeightPlace};
use collimate_scales::Codebook;
use collimate_vq::read_codebook;
use collimate_weights::{ModelFolder, Storage};

use crate::allowance::least_held;
use crate::error::SessionError;
use crate::files::BaseModel;
use crate::optimizer::AdamW;
use crate::options::{SessionOptions, Training};
use crate::outline::Outline;
use crate::session::{BackendSession, Session};
use crate::weights::Files;

/// Opens a model.
///
/// # Errors
/// The backend or device is missing or cannot compute in this dtype, or the model folder or adapter is broken.
pub fn open_session(options: &SessionOptions) -> Result<Box<dyn Session>, SessionError> {
    check_session(options)?.open()
}

/// Checks what a session needs without reading weights: backend and device, configuration, adapter, the headers of the
/// weights. Cheap, so it comes before anything that takes time; nothing of it is read again when the session is opened.
///
/// # Errors
/// As [`open_session`], except for weights that are not finite.
pub fn check_session(options: &SessionOptions) -> Result<CheckedSession, SessionError> {
    let memory = options.device_memory()?;
    SessionDraft::new(ModelFolder::open(&options.model)?, options.clone(), memory)?.check()
}

/// What the files of a model and an adapter say, and what options make of it. The files of the weights are opened only where
/// the configuration depends on them.
#[derive(Debug)]
pub struct SessionDraft {
    /// The model without its weights.
    pub outline: Outline,
    options: SessionOptions,
    folder: ModelFolder,
    adapter: Option<Adapter>,
    /// The model without the adapter.
    base: ModelConfig,
}

impl SessionDraft {
    /// Reads the adapter and decides where weights are kept: the only place that does. The device has so much memory.
    ///
    /// # Errors
    /// As [`open_session`], but for the device and what the weights hold.
    pub fn new(
        folder: ModelFolder,
        options: SessionOptions,
        memory: Option<DeviceMemory>,
    ) -> Result<Self, SessionError> {
        let storage = if options.weights == WeightPlace::Mapped { Storage::Mapped } else { Storage::Resident };
        if folder.config().scales.is_some() && matches!(options.training, Training::Lora(_)) {
            let message =
                "must be false: a model of token maps has no adapters, all its weights are trained".to_owned();
            return Err(SessionError::Option { key: "use_peft", message });
        }
        let mut base = options.applied_to(folder.config(), storage)?;
        let adapter = options.adapter.as_deref().map(|dir| Adapter::read(dir, &base)).transpose()?;
        let (lora, trainable) = trained(&options.training, adapter.as_ref())?;
        let outline = |base: &ModelConfig| {
            let config = adapter.as_ref().map_or_else(|| base.clone(), |adapter| adapter.model_config(base));
            Outline::new(config, lora.clone(), trainable, &options, memory.clone())
        };
        let mut outlined = outline(&base)?;
        if let Some(budget) = options.budget_without_room(&outlined)
            && let Ok(mut mapped) = options.applied_to(folder.config(), Storage::Mapped)
        {
            let (model, budget) = (options.model.display(), format_bytes(budget));
            mapped.notes.push(format!("{model}: weights stay in their files: they do not fit into {budget}"));
            (outlined, base) = (outline(&mapped)?, mapped);
        }
        Ok(Self { outline: outlined, options, folder, adapter, base })
    }

    /// Checks the headers of the weights.
    ///
    /// # Errors
    /// They do not have what the configuration says.
    pub fn check(self) -> Result<CheckedSession, SessionError> {
        let Self { outline, options, folder, adapter, base } = self;
        let weights = Arc::new(folder.into_weights()?);
        let checked = weights.check(&base.tensors())?;
        let codebook = read_codebook(&options.model, &base)?;
        let mut notes = [base.notes, checked.notes].concat();
        if !multiplies_in(&options.backend, options.dtype)? {
            let dtype = options.dtype.name();
            notes.push(format!(
                "this processor has no {dtype} products, so {} computes them in float32: {dtype} saves memory but no time",
                options.backend
            ));
        }
        let wanted = options.matmul_precision;
        if matmul_precision(&options.backend, wanted)? != wanted {
            let wanted = wanted.name();
            notes.push(format!(
                "products in {wanted} precision would not be faster on this processor: they are in float32"
            ));
        }
        if codebook.is_some() && options.dtype != ComputeDtype::Float32 {
            let message = "a model of token maps is computed in float32 only".to_owned();
            return Err(SessionError::Option { key: "compute_dtype", message });
        }
        Ok(CheckedSession { outline, options, files: Files { weights, adapter }, codebook, notes })
    }
}

impl SessionOptions {
    /// Checks that the device is there and computes in this dtype; returns its memory, if it says.
    ///
    /// # Errors
    /// It is not, or does not.
    pub fn device_memory(&self) -> Result<Option<DeviceMemory>, BackendError> {
        // Fails for a backend or a device that is not there, which not every dtype needs.
        let memory = device_memory(&self.backend, self.device)?;
        check_dtype(&self.backend, self.device, self.dtype)?;
        matmul_precision(&self.backend, self.matmul_precision)?;
        Ok(memory)
    }

    /// The budget, if weights are to be in memory only where it has room for them, and it has none.
    fn budget_without_room(&self, outline: &Outline) -> Option<u64> {
        let WeightPlace::Auto(budget) = self.weights else { return None };
        budget.bytes(outline.memory_bytes()).filter(|bytes| *bytes <= least_held(&outline.costs))
    }
}

/// A session that lacks only the numbers of the weights.
#[derive(Debug)]
pub struct CheckedSession {
    /// The model without its weights.
    pub outline: Outline,
    /// What was asked for.
    pub options: SessionOptions,
    files: Files,
    /// Of a model of token maps.
    codebook: Option<Codebook>,
    notes: Vec<String>,
}

impl CheckedSession {
    /// Reads the weights.
    ///
    /// # Errors
    /// As [`open_session`].
    pub fn open(self) -> Result<Box<dyn Session>, SessionError> {
        let (backend, device) = (self.options.backend.clone(), self.options.device);
        set_float32_matmul_precision(self.options.matmul_precision);
        Ok(dispatch(&backend, device, self)??)
    }

    /// Options for a model beside this one, in what is left of the budget.
    pub fn options_beside(&self) -> SessionOptions {
        let left = |budget: MemoryBudget| match budget.bytes(self.outline.memory_bytes()) {
            Some(bytes) => MemoryBudget::Bytes(bytes.saturating_sub(self.outline.costs.resident)),
            None => budget,
        };
        let weights = match self.options.weights {
            WeightPlace::Auto(budget) => WeightPlace::Auto(left(budget)),
            place => place,
        };
        SessionOptions { weights, ..self.options.clone() }
    }
}

/// The adapter beside the model, if any, and what is trained.
fn trained(training: &Training, adapter: Option<&Adapter>) -> Result<(Option<LoraConfig>, Trainable), SessionError> {
    Ok(match (training, adapter) {
        (Training::Lora(wanted), Some(adapter)) => {
            let config = LoraConfig { dropout: wanted.dropout, ..adapter.config.clone() };
            (Some(config), Trainable::Adapter)
        }
        (Training::Lora(wanted), None) => (Some((**wanted).clone()), Trainable::Adapter),
        (Training::Off, adapter) => (adapter.map(|adapter| adapter.config.clone()), Trainable::Nothing),
        (Training::Full, None) => (None, Trainable::Base),
        (Training::Full, Some(_)) => return Err(SessionError::AdapterWithFullTraining),
    })
}

impl BackendJob for CheckedSession {
    type Output = Result<Box<dyn Session>, HfError>;

    fn run<B: FusedOps>(self, device: B::Device) -> Self::Output {
        let CheckedSession { outline, options, mut files, codebook, notes } = self;
        let Outline { config, lora, trainable, .. } = outline;
        let (dtype, seed) = (options.dtype, options.seed);
        let base = BaseModel {
            name: options.model.to_string_lossy().into_owned(),
            ends: options.ends,
            replaced: files.adapter.iter().flat_map(|adapter| adapter.base.keys().cloned()).collect(),
            files: (config.keeps_others() && trainable == Trainable::Base).then(|| Arc::clone(&files.weights)),
            lacks_rows: files.adapter.as_ref().is_some_and(|adapter| adapter.lacks_base_rows),
        };
        let mut model = CausalLm::<B>::new(config.clone(), lora, trainable, Placement { device, dtype }, |info| {
            if !info.is_adapter {
                return files.weight(info);
            }
            let value = match files.own(&info.name) {
                Some(tensor) => tensor,
                None => files.fresh(info, &config, seed)?,
            };
            Ok(value.into())
        })?;
        codebook.into_iter().for_each(|codebook| model.set_codebook(codebook));
        let dropped = model.config().published_dropout().filter(|_| options.published_dropout);
        model.set_dropped(dropped.unwrap_or_default());
        let optimizer = AdamW::new(model.parameters().len());
        Ok(Box::new(BackendSession {
            model,
            optimizer,
            tape: None,
            router_load: None,
            base,
            notes,
            unrounded: Vec::new(),
            trained_factors: None,
            sharded: None,
        }))
    }
}
