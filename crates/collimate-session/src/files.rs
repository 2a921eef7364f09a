//! Writes and restores a session's parameters and optimizer.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use collimate_backend::{FusedOps, Moments};
use collimate_files::ShardSize;
use collimate_hf::{HfError, HostTensor, TensorSpec, name_ends};
use collimate_hub::name_of_snapshot;
use collimate_model::{CausalLm, ParameterInfo};
use collimate_peft::Adapter;
use collimate_weights::{StorageDtype, WeightFiles, read_config, write_model, write_model_like, write_safetensors_of};

use crate::error::SessionError;
use crate::optimizer::AdamW;

const OPTIMIZER_FILE: &str = "optimizer.safetensors";
const STEP: &str = "step";
/// The moments of a parameter, by what PyTorch calls them.
pub(crate) const MOMENTS: [&str; 2] = ["exp_avg", "exp_avg_sq"];

/// The model that an adapter belongs to.
pub(crate) struct BaseModel {
    /// Its folder, for the adapter's configuration.
    pub(crate) name: String,
    /// Tokens that end a turn, for the files of what is saved.
    pub(crate) ends: Vec<u32>,
    /// Its tensors that the adapter's file replaces, and which are saved with the adapter again.
    pub(crate) replaced: Vec<String>,
    /// Its files, where a tower beside the text model is written again with it.
    pub(crate) files: Option<Arc<WeightFiles>>,
    /// Whether that file lacks rows of its embeddings, so that nothing can be computed without the adapter.
    pub(crate) lacks_rows: bool,
}

pub(crate) fn save_model<B: FusedOps>(
    model: &CausalLm<B>,
    base: &BaseModel,
    dir: &Path,
    dtype: StorageDtype,
    max_shard_size: ShardSize,
) -> Result<(), SessionError> {
    let infos = model.parameters();
    if let Some(config) = model.lora() {
        let mut config = config.clone();
        // A model from the hub is recorded by its name there, so that PEFT finds it.
        let hub = name_of_snapshot(Path::new(&base.name));
        let name = hub.and_then(|name| Some(name.split_once('@')?.0.to_owned()));
        config.base_model_name_or_path = Some(name.unwrap_or_else(|| base.name.clone()));
        let named = |wanted: &dyn Fn(&ParameterInfo) -> bool| {
            let wanted = infos.iter().enumerate().filter(|(_, info)| wanted(info));
            wanted.map(|(index, info)| (info.name.clone(), model.download(index))).collect()
        };
        let tensors = named(&|info| info.is_adapter);
        let replaced = named(&|info| base.replaced.contains(&info.name));
        Adapter { config, tensors, base: replaced, lacks_base_rows: base.lacks_rows }.write(dir)?;
    } else {
        let tensors = infos.iter().enumerate().map(|(index, info)| (info.name.clone(), model.download(index)));
        match &base.files {
            Some(files) => write_model_like(dir, model.config(), files, tensors.map(Ok), dtype, max_shard_size)?,
            None => write_model(dir, model.config(), tensors, dtype, max_shard_size)?,
        }
    }
    Ok(name_ends(dir, Path::new(&base.name), &base.ends)?)
}

/// Reads the files back and compares them with the parameters, tensor by tensor, bit for bit.
pub(crate) fn check_saved<B: FusedOps>(
    model: &CausalLm<B>,
    base: &BaseModel,
    dir: &Path,
    dtype: StorageDtype,
) -> Result<(), SessionError> {
    let differs = |tensor: &str| HfError::ReadBack { path: dir.to_owned(), tensor: tensor.to_owned() };
    let same = |written: &HostTensor, held: &HostTensor, dtype: StorageDtype| {
        let held = held.data.iter().map(|value| dtype.round(*value).to_bits());
        held.eq(written.data.iter().map(|value| value.to_bits()))
    };
    if model.lora().is_some() {
        let adapter = Adapter::read(dir, model.config())?;
        for (index, info) in model.parameters().iter().enumerate().filter(|(_, info)| info.is_adapter) {
            let written = adapter.tensors.get(&info.name);
            if !written.is_some_and(|written| same(written, &model.download(index), StorageDtype::F32)) {
                return Err(differs(&info.name).into());
            }
        }
        return Ok(());
    }
    let weights = WeightFiles::open(dir)?;
    weights.check(&read_config(dir)?.tensors())?;
    for (index, info) in model.parameters().iter().enumerate() {
        let dtype = dtype.of(model.config(), &info.name);
        if !same(&weights.read(&info.name)?, &model.download(index), dtype) {
            return Err(differs(&info.name).into());
        }
    }
    let of_base = base.files.as_ref().map(|files| files.kept(model.config())).unwrap_or_default();
    let kept = weights.kept(model.config());
    match of_base.iter().find(|tensor| !kept.contains(tensor)) {
        Some(tensor) => Err(differs(tensor.name).into()),
        None => Ok(()),
    }
}

pub(crate) fn load_model<B: FusedOps>(model: &mut CausalLm<B>, dir: &Path) -> Result<(), SessionError> {
    if model.lora().is_some() {
        let mut adapter = Adapter::read(dir, model.config())?;
        for index in 0..model.parameters().len() {
            let info = &model.parameters()[index];
            if !info.is_adapter {
                continue;
            }
            let Some(tensor) = adapter.tensors.remove(&info.name) else {
                return Err(SessionError::Checkpoint {
                    path: dir.to_owned(),
                    message: format!("has no {}: it belongs to another run", info.name),
                });
            };
            model.load(index, tensor);
        }
        return Ok(());
    }
    let weights = WeightFiles::open(dir)?;
    weights.check(&model.config().tensors())?;
    for index in 0..model.parameters().len() {
        let value = weights.read(&model.parameters()[index].name)?;
        model.load(index, value);
    }
    Ok(())
}

pub(crate) fn save_optimizer<B: FusedOps>(
    model: &CausalLm<B>,
    optimizer: &AdamW<B>,
    dir: &Path,
) -> Result<(), SessionError> {
    let written: Vec<usize> =
        (0..optimizer.moments.len()).filter(|&index| optimizer.moments[index].is_some()).collect();
    // One tensor at a time: a copy of all moments would take half as much memory as training itself.
    let moments = optimizer.moments.iter().flatten();
    let mut tensors = moments.flat_map(|Moments { m, v }| [m, v]).map(host);
    write_moments(model, optimizer.step, &written, &mut tensors, dir)
}

/// Writes the optimizer's file: the step, and the moments of the parameters at these indices, both of each in turn.
pub(crate) fn write_moments<B: FusedOps>(
    model: &CausalLm<B>,
    step: u64,
    written: &[usize],
    moments: &mut dyn Iterator<Item = HostTensor>,
    dir: &Path,
) -> Result<(), SessionError> {
    let infos = || written.iter().map(|&index| &model.parameters()[index]);
    let names = || infos().flat_map(|info| MOMENTS.map(|kind| moment_name(info, kind)));
    let specs = moment_specs(infos());
    let step = (STEP.to_owned(), HostTensor { shape: vec![1], data: vec![step as f32] });
    let tensors = std::iter::once(step).chain(names().zip(moments));
    Ok(write_safetensors_of(&dir.join(OPTIMIZER_FILE), &specs, tensors, StorageDtype::F32)?)
}

/// What the optimizer's file has of these parameters.
fn moment_specs<'a>(infos: impl Iterator<Item = &'a ParameterInfo>) -> Vec<TensorSpec> {
    let of = |info: &ParameterInfo| MOMENTS.map(|kind| TensorSpec::new(moment_name(info, kind), &info.stored_shape()));
    std::iter::once(TensorSpec::new(STEP, &[1])).chain(infos.flat_map(of)).collect()
}

fn moment_name(info: &ParameterInfo, kind: &str) -> String {
    format!("{}.{kind}", info.name)
}

/// The optimizer's file of a checkpoint, which has both moments of every trained parameter.
pub(crate) struct Checkpointed(WeightFiles);

impl Checkpointed {
    pub(crate) fn open<B: FusedOps>(model: &CausalLm<B>, dir: &Path) -> Result<Self, SessionError> {
        let file = WeightFiles::open_file(&dir.join(OPTIMIZER_FILE))?;
        file.check(&moment_specs(model.trainable().into_iter().map(|index| &model.parameters()[index])))?;
        Ok(Self(file))
    }

    /// Updates so far.
    pub(crate) fn step(&self) -> Result<u64, SessionError> {
        Ok(self.0.read(STEP)?.data[0] as u64)
    }

    /// A parameter's moment of one of the [`MOMENTS`], in the stored shape.
    pub(crate) fn read(&self, info: &ParameterInfo, kind: &str) -> Result<HostTensor, SessionError> {
        Ok(self.0.read(&moment_name(info, kind))?)
    }
}

pub(crate) fn load_optimizer<B: FusedOps>(
    model: &CausalLm<B>,
    optimizer: &mut AdamW<B>,
    dir: &Path,
) -> Result<(), SessionError> {
    let checkpoint = Checkpointed::open(model, dir)?;
    optimizer.step = checkpoint.step()?;
    for index in model.trainable() {
        let info = &model.parameters()[index];
        let moment = |kind: &str| -> Result<Tensor<B, 2>, SessionError> {
            let value = checkpoint.read(info, kind)?;
            Ok(Tensor::from_data(TensorData::new(value.data, info.stored_shape()), &model.parameter(index).device()))
        };
        let [m, v] = MOMENTS.map(moment);
        optimizer.moments[index] = Some(Moments { m: m?, v: v? });
    }
    Ok(())
}

/// A tensor's numbers, in float32.
pub(crate) fn host<B: Backend>(tensor: &Tensor<B, 2>) -> HostTensor {
    let shape = tensor.dims().to_vec();
    HostTensor { shape, data: tensor.to_data().iter::<f32>().collect() }
}
