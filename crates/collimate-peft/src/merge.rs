//! An adapter added to its base model's weights.

use std::collections::BTreeSet;

use collimate_hf::{HfError, HostTensor, ModelConfig};
use collimate_weights::WeightFiles;
use rayon::prelude::*;

use crate::adapter::Adapter;
use crate::config::{adaptable_modules, embedding_module, module_of};
use crate::factors::FactorNames;
use crate::names::AdapterPart;

impl Adapter {
    /// The configuration of the model with the adapter merged into its weights: its vocabulary may have been resized, and
    /// its output layer is no longer the embedding if one of them was changed.
    pub fn merged_config(&self, model: &ModelConfig) -> ModelConfig {
        let config = self.model_config(model);
        let (embedding, head) = (config.embedding().name, config.head().name);
        let changed = self.changed_tensors(&config);
        let parts = config.tie_word_embeddings && (changed.contains(&embedding) || changed.contains(&head));
        if parts { config.untied() } else { config }
    }

    /// The model's tensors that the adapter changes.
    pub fn changed_tensors(&self, model: &ModelConfig) -> BTreeSet<String> {
        let linears = adaptable_modules(model).into_iter();
        let changed = linears.filter(|linear| self.config.factors_of(model, &linear.module).is_some());
        let changed = changed.map(|linear| format!("{}.weight", linear.module));
        let parts = self.tensors.keys().filter_map(|name| AdapterPart::parse(name));
        let copies = parts.filter(|(_, part)| *part == AdapterPart::Copy).map(|(tensor, _)| tensor.to_owned());
        let own = changed.chain(copies);
        let resized = self.model_config(model).vocab_size != model.vocab_size;
        own.chain(self.base.keys().filter(|_| resized).cloned()).collect()
    }
}

/// Reads one tensor of the merged model, by its name in [`Adapter::merged_config`]; also returns the largest absolute
/// change in it.
///
/// # Errors
/// Those of [`WeightFiles::read`].
pub fn merged_tensor(
    weights: &WeightFiles,
    adapter: &Adapter,
    model: &ModelConfig,
    name: &str,
) -> Result<(HostTensor, f32), HfError> {
    let mut tensor = base_tensor(weights, adapter, model, name)?;
    if let Some(copy) = adapter.tensors.get(&AdapterPart::Copy.name(name)) {
        let changes = copy.data.iter().zip(&tensor.data).map(|(new, old)| (new - old).abs());
        return Ok((copy.clone(), changes.fold(0.0, f32::max)));
    }
    let module = module_of(name);
    if !name.ends_with(".weight") {
        return Ok((tensor, 0.0));
    }
    let part = |part: AdapterPart| adapter.tensors.get(&part.name(module));
    let factors = adapter.config.factors_of(model, module);
    let scale = factors.as_ref().map_or(1.0, |factors| factors.scale) as f32;
    let of = |name: fn(&FactorNames) -> Option<&str>| adapter.tensors.get(name(factors.as_ref()?)?);
    let change = match (of(|f| Some(&f.a)), of(|f| Some(&f.b)), of(|f| f.magnitude.as_deref())) {
        (Some(a), Some(b), None) => add_product(&mut tensor, a, b, scale),
        (Some(a), Some(b), Some(magnitude)) => {
            let before = tensor.clone();
            add_product(&mut tensor, a, b, scale);
            set_lengths(&mut tensor, magnitude);
            let changes = tensor.data.iter().zip(&before.data).map(|(new, old)| (new - old).abs());
            changes.fold(0.0, f32::max)
        }
        _ if module == embedding_module(model) => {
            match (part(AdapterPart::EmbeddingA), part(AdapterPart::EmbeddingB)) {
                // Rows are tokens here, so the product is transposed: B takes A's place.
                (Some(a), Some(b)) => add_product(&mut tensor, &transposed(b), &transposed(a), scale),
                _ => 0.0,
            }
        }
        _ => 0.0,
    };
    Ok((tensor, change))
}

/// A tensor of the base model: one that the adapter's file replaces, or the one in the model's own files.
pub(crate) fn base_tensor(
    weights: &WeightFiles,
    adapter: &Adapter,
    model: &ModelConfig,
    name: &str,
) -> Result<HostTensor, HfError> {
    let stored = match model.output_layer() {
        None if name == model.head().name => model.embedding().name,
        _ => name.to_owned(),
    };
    match adapter.base.get(&stored) {
        Some(tensor) => Ok(tensor.clone()),
        None => weights.read(&stored),
    }
}

/// `weight += scale · B A`; returns the largest absolute change.
///
/// # Shapes
/// weight [out, in], A [r, in], B [out, r].
fn add_product(weight: &mut HostTensor, a: &HostTensor, b: &HostTensor, scale: f32) -> f32 {
    let (r, width) = (a.shape[0], a.shape[1]);
    let rows = weight.data.par_chunks_mut(width).zip(b.data.par_chunks(r));
    let changes = rows.map(|(row, b_row)| {
        let mut change = vec![0.0_f32; width];
        for (factor, a_row) in b_row.iter().zip(a.data.chunks_exact(width)) {
            change.iter_mut().zip(a_row).for_each(|(sum, x)| *sum += factor * x);
        }
        row.iter_mut().zip(change).fold(0.0_f32, |largest, (weight, change)| {
            let change = scale * change;
            *weight += change;
            largest.max(change.abs())
        })
    });
    changes.reduce(|| 0.0, f32::max)
}

/// Gives each row of a weight, [out, in], the length that DoRA's magnitudes, \[out\], say.
fn set_lengths(weight: &mut HostTensor, magnitudes: &HostTensor) {
    let width = weight.shape[1];
    weight.data.par_chunks_mut(width).zip(magnitudes.data.par_iter()).for_each(|(row, magnitude)| {
        let factor = magnitude / row_length(row);
        row.iter_mut().for_each(|value| *value *= factor);
    });
}

/// The Euclidean length of a row.
fn row_length(row: &[f32]) -> f32 {
    row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt() as f32
}

/// The lengths of the rows of a weight, [out, in]: DoRA's magnitudes before training.
pub fn row_lengths(weight: &HostTensor) -> HostTensor {
    let width = weight.shape.get(1).copied().unwrap_or(1).max(1);
    HostTensor::new([weight.shape[0]], weight.data.par_chunks(width).map(row_length).collect())
}

fn transposed(matrix: &HostTensor) -> HostTensor {
    let (rows, columns) = (matrix.shape[0], matrix.shape[1]);
    let value = |column: usize| (0..rows).map(move |row| (row, column));
    let data = (0..columns).flat_map(value).map(|(row, column)| matrix.data[row * columns + column]).collect();
    HostTensor::new([columns, rows], data)
}
