//! The parameters of a model, as its files have them or as a fresh adapter begins.

use std::sync::Arc;

use collimate_backend::{FilePages, HostPacked, PlainMatrix};
use collimate_hf::{HfError, HostTensor, ModelConfig};
use collimate_model::{ParameterInfo, ParameterValue};
use collimate_peft::{Adapter, AdapterPart, row_lengths};
use collimate_weights::{Storage, WeightFiles};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The files of a model and its adapter.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) weights: Arc<WeightFiles>,
    pub(crate) adapter: Option<Adapter>,
}

impl Files {
    /// A tensor of the base model; an adapter may have another one for it.
    fn base(&self, name: &str) -> Result<HostTensor, HfError> {
        match self.adapter.as_ref().and_then(|adapter| adapter.base.get(name)) {
            Some(tensor) => Ok(tensor.clone()),
            None => self.weights.read(name),
        }
    }

    /// A parameter of the base model, packed if it is to be; a matrix of plain numbers is not read yet.
    pub(crate) fn weight(&self, info: &ParameterInfo) -> Result<ParameterValue, HfError> {
        let replaced = self.adapter.as_ref().is_some_and(|adapter| adapter.base.contains_key(&info.name));
        let shape = <[usize; 2]>::try_from(info.file_shape.as_slice()).ok();
        let Some(shape) = shape.filter(|_| !replaced) else {
            return Ok(self.base(&info.name)?.into());
        };
        if info.packed.is_none() && !info.in_file {
            let plain = if self.weights.is_packed(&info.name) { None } else { self.plain(&info.name, shape)? };
            return Ok(match plain {
                Some(weight) => ParameterValue::Plain(weight),
                None => self.base(&info.name)?.into(),
            });
        }
        let storage = if info.in_file { Storage::Mapped } else { Storage::Resident };
        let packed = self.weights.read_packed(&info.name, Some(shape), storage)?;
        packed.iter().try_for_each(|matrix| self.weights.check_codes(&info.name, matrix))?;
        let weight = match (packed, info.packed) {
            (Some(matrix), _) if info.in_file => HostPacked::mapped(matrix, self.pages(&info.name)),
            (Some(matrix), _) => HostPacked::resident(matrix),
            (None, Some(format)) => HostPacked::resident(self.weights.pack(&info.name, format)?),
            (None, None) => match self.plain(&info.name, shape)? {
                Some(weight) => weight,
                None => return Ok(self.base(&info.name)?.into()),
            },
        };
        if info.in_file {
            self.weights.release_weight(&info.name);
        }
        Ok(ParameterValue::Packed(weight))
    }

    /// A matrix of plain numbers in its file, all of them finite; `None` if it has another size.
    fn plain(&self, name: &str, [rows, columns]: [usize; 2]) -> Result<Option<HostPacked>, HfError> {
        self.weights.check_numbers(name)?;
        let (dtype, bytes) = self.weights.plain_bytes(name)?;
        let matrix = PlainMatrix::new(rows, columns, dtype, bytes);
        Ok(matrix.map(|matrix| HostPacked::plain(matrix, self.pages(name))))
    }

    fn pages(&self, name: &str) -> Arc<WeightPages> {
        Arc::new(WeightPages { files: Arc::clone(&self.weights), name: name.to_owned() })
    }

    /// Takes a tensor of the adapter's file.
    pub(crate) fn own(&mut self, name: &str) -> Option<HostTensor> {
        self.adapter.as_mut()?.tensors.remove(name)
    }

    /// PEFT's initialization, so that the adapter changes nothing yet: A uniform in ±1/√in (Kaiming with a = √5) and B zero;
    /// for the embedding A zero and B standard normal; DoRA's magnitudes and copies as the base model is.
    ///
    /// The draws depend on the seed and the tensor's name only.
    pub(crate) fn fresh(&self, info: &ParameterInfo, config: &ModelConfig, seed: u64) -> Result<HostTensor, HfError> {
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

/// The pages of a packed weight that stays in its file.
#[derive(Debug)]
struct WeightPages {
    files: Arc<WeightFiles>,
    name: String,
}

impl FilePages for WeightPages {
    fn prefetch(&self) {
        self.files.prefetch_weight(&self.name);
    }

    fn release(&self) {
        self.files.release_weight(&self.name);
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
