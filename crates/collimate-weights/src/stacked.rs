//! Tensors that hold a matrix of every expert of a block: what is where in them.
//!
//! A model's parameters are matrices, one for each linear layer of each expert ([`ModelConfig::tensors`]); files may have them
//! together ([`stored_tensors`]). Reading takes them apart, writing puts them together.

use std::ops::Range;

use collimate_hf::{Family, ModelConfig, Stacking, TensorSpec};

use crate::storage_dtype::StorageDtype;

/// Limit on the experts of one tensor: more are a broken file.
const MOST_EXPERTS: usize = 100_000;

/// Where the numbers of a matrix or vector are in a tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) shape: Vec<usize>,
    /// The part of the file's tensor that it shares with no other expert, in numbers.
    pub(crate) block: Range<usize>,
    /// The first number, counted from the block's.
    pub(crate) first: usize,
    /// The distances between numbers along each of its dimensions.
    pub(crate) strides: Vec<usize>,
}

impl View {
    /// A whole tensor.
    fn whole(shape: &[usize]) -> Self {
        let strides = (1..=shape.len()).map(|after| shape[after..].iter().product()).collect();
        Self { shape: shape.to_vec(), block: 0..shape.iter().product(), first: 0, strides }
    }

    /// Whether its numbers follow each other and fill the block.
    pub(crate) fn is_whole_block(&self) -> bool {
        let strides = (1..=self.shape.len()).map(|after| self.shape[after..].iter().product::<usize>());
        self.strides.iter().copied().eq(strides) && self.len() == self.block.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The places of its numbers in the block, in row-major order.
    pub(crate) fn places(&self) -> impl Iterator<Item = usize> + '_ {
        let [rows, columns] = match self.shape.as_slice() {
            [rows, columns] => [*rows, *columns],
            other => [1, other.iter().product()],
        };
        let [down, across] = match self.strides.as_slice() {
            [down, across] => [*down, *across],
            [across] => [0, *across],
            _ => [0, 1],
        };
        (0..rows).flat_map(move |row| (0..columns).map(move |column| self.first + row * down + column * across))
    }
}

/// Where a parameter is in a tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Plain numbers.
    Plain(View),
    /// Rows of an expert's part of a packed weight: all of them, or every other one from this on.
    Packed { expert: usize, first_row: Option<usize> },
}

/// A parameter in a tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredPart {
    /// Its name in the model.
    pub(crate) name: String,
    pub(crate) place: Place,
}

/// A tensor of a file, and the parameters in it.
#[derive(Debug, Clone)]
pub(crate) struct StoredTensor {
    pub(crate) spec: TensorSpec,
    pub(crate) parts: Vec<StoredPart>,
    pub(crate) dtype: StorageDtype,
}

impl StoredTensor {
    /// A tensor that is one parameter.
    pub(crate) fn whole(spec: TensorSpec, dtype: StorageDtype) -> Self {
        let part = StoredPart { name: spec.name.clone(), place: Place::Plain(View::whole(&spec.shape)) };
        Self { parts: vec![part], spec, dtype }
    }
}

/// The parameters in a tensor with this name and shape in files of a family; `None` if it is not one of several experts, or
/// has another shape.
pub(crate) fn parts(family: &Family, name: &str, shape: &[usize]) -> Option<Vec<StoredPart>> {
    let (module, kind) = name.rsplit_once('.').filter(|(module, _)| module.ends_with(family.experts_name()))?;
    let count = *shape.first()?;
    if !(1..=MOST_EXPERTS).contains(&count) || shape.contains(&0) {
        return None;
    }
    let [gate, up, down] = family.expert_names();
    let is_apart = family.stacking() == Stacking::Apart;
    let (linears, packed): (&[&str], _) = match kind {
        "gate_up_proj" => (&[gate, up], false),
        "down_proj" => (&[down], false),
        _ if is_apart => return None,
        "gate_up_proj_bias" => (&[gate, up], false),
        "down_proj_bias" => (&[down], false),
        "gate_up_proj_blocks" => (&[gate, up], true),
        "down_proj_blocks" => (&[down], true),
        _ => return None,
    };
    let (step, ending) = (linears.len(), if kind.ends_with("_bias") { "bias" } else { "weight" });
    let rank = if packed { 4 } else { 3 - usize::from(ending == "bias") };
    let outputs = if packed || is_apart { shape.get(1) } else { shape.last() };
    if shape.len() != rank || !outputs?.is_multiple_of(step) {
        return None;
    }
    let part = |(expert, (index, linear)): (usize, (usize, &&str))| {
        let place = match packed {
            true => Place::Packed { expert, first_row: (step > 1).then_some(index) },
            false if is_apart => Place::Plain(rows(&shape[1..], [expert, index, step])),
            false => Place::Plain(view(&shape[1..], [expert, index, step])),
        };
        StoredPart { name: format!("{module}.{expert}.{linear}.{ending}"), place }
    };
    let experts = (0..count).flat_map(|expert| linears.iter().enumerate().map(move |linear| (expert, linear)));
    Some(experts.map(part).collect())
}

/// Rows of one expert's part of a tensor, [out, in]: one of the matrices that stand below each other.
fn rows(part: &[usize], [expert, index, step]: [usize; 3]) -> View {
    let (height, width) = (part[0] / step, part[1]);
    let start = (expert * step + index) * height * width;
    View { shape: vec![height, width], block: start..start + height * width, first: 0, strides: vec![width, 1] }
}

/// The outputs `index`, `index + step`, and so on of one expert's part of a tensor: weights [in, out], which become [out, in],
/// or biases \[out\].
fn view(part: &[usize], [expert, index, step]: [usize; 3]) -> View {
    let size: usize = part.iter().product();
    let outputs = part.last().copied().unwrap_or(1);
    let (shape, strides) = match part {
        [inputs, _] => (vec![outputs / step, *inputs], vec![step, outputs]),
        _ => (vec![outputs / step], vec![step]),
    };
    View { shape, block: expert * size..(expert + 1) * size, first: index, strides }
}

/// The tensors that a file of this model has, most of them in `dtype`, and the parameters in them.
pub(crate) fn stored_tensors(config: &ModelConfig, dtype: StorageDtype) -> Vec<StoredTensor> {
    let (family, specs) = (config.family, config.tensors());
    let whole = |spec: TensorSpec| {
        let dtype = dtype.of(config, &spec.name);
        StoredTensor::whole(spec, dtype)
    };
    let Some(experts) = config.experts.filter(|_| family.stacking() != Stacking::Apart) else {
        return specs.into_iter().map(whole).collect();
    };
    let [count, width, inner] = [experts.count, config.hidden_size, experts.intermediate_size];
    let mut stored: Vec<StoredTensor> = Vec::new();
    for spec in specs {
        let (name, inside) = (family.experts_name(), &spec.name);
        let module = inside.find(&format!(".{name}.0.")).map(|at| &inside[..at + 1 + name.len()]);
        let Some(module) = module else {
            if !spec.name.contains(&format!(".{name}.")) {
                stored.push(whole(spec));
            }
            continue;
        };
        // The first expert's first tensor stands for those of all.
        if stored.last().is_some_and(|last| last.spec.name.starts_with(module)) {
            continue;
        }
        let shapes: [(&str, &[usize]); 4] = [
            ("gate_up_proj", &[count, width, 2 * inner]),
            ("gate_up_proj_bias", &[count, 2 * inner]),
            ("down_proj", &[count, inner, width]),
            ("down_proj_bias", &[count, width]),
        ];
        stored.extend(shapes.into_iter().filter_map(|(kind, shape)| {
            let spec = TensorSpec::new(format!("{module}.{kind}"), shape);
            Some(StoredTensor { parts: parts(family, &spec.name, shape)?, spec, dtype })
        }));
    }
    stored
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn config() -> ModelConfig {
        let value = json!({
            "model_type": "gpt_oss", "hidden_size": 4, "intermediate_size": 3, "num_attention_heads": 2, "head_dim": 2,
            "num_key_value_heads": 1, "num_hidden_layers": 2, "num_local_experts": 3, "num_experts_per_tok": 2,
            "vocab_size": 9,
        });
        ModelConfig::from_json(Path::new("config.json"), value).unwrap()
    }

    #[test]
    fn every_parameter_has_one_place_and_every_number_one_parameter() {
        let config = config();
        let specs: BTreeMap<String, Vec<usize>> =
            config.tensors().into_iter().map(|spec| (spec.name, spec.shape)).collect();
        let mut found = BTreeMap::new();
        for stored in stored_tensors(&config, StorageDtype::F32) {
            let mut taken = vec![false; stored.spec.num_elements()];
            for part in stored.parts {
                let Place::Plain(view) = part.place else { panic!("{} is packed", part.name) };
                for place in view.places().map(|place| view.block.start + place) {
                    assert!(!std::mem::replace(&mut taken[place], true), "{} has what another has", part.name);
                }
                assert!(found.insert(part.name, view.shape).is_none());
            }
            assert!(taken.iter().all(|taken| *taken), "{} has numbers of nobody", stored.spec.name);
        }
        assert_eq!(found, specs);
        let names: Vec<String> =
            stored_tensors(&config, StorageDtype::F32).into_iter().map(|stored| stored.spec.name).collect();
        assert_eq!(names.iter().filter(|name| name.contains(".experts.")).count(), 2 * 4);
    }

    /// transformers' `gate, up = gate_up[..., ::2], gate_up[..., 1::2]` of `x @ gate_up_proj[expert]`.
    #[test]
    fn gates_are_even_columns_and_ups_odd_ones() {
        let family = config().family;
        let parts = parts(family, "model.layers.1.mlp.experts.gate_up_proj", &[3, 4, 6]).unwrap();
        assert_eq!(parts[3].name, "model.layers.1.mlp.experts.1.up_proj.weight");
        let Place::Plain(view) = &parts[3].place else { panic!("plain numbers") };
        assert_eq!((view.shape.as_slice(), view.block.clone()), (&[3, 4][..], 24..48));
        // Row 0 is column 1 of each of the four rows of six.
        assert_eq!(view.places().take(5).collect::<Vec<_>>(), [1, 7, 13, 19, 3]);
        assert!(!view.is_whole_block());
    }

    #[test]
    fn other_tensors_and_shapes_are_left_alone() {
        let family = config().family;
        for (name, shape) in [
            ("model.layers.1.mlp.experts.gate_up_proj", &[3, 4, 5][..]),
            ("model.layers.1.mlp.experts.gate_up_proj", &[3, 4]),
            ("model.layers.1.mlp.experts.gate_up_proj", &[0, 4, 6]),
            ("model.layers.1.mlp.experts.gate_up_proj", &[usize::MAX, 0, 6]),
            ("model.layers.1.mlp.experts.other", &[3, 4, 6]),
            ("model.layers.1.mlp.router.weight", &[3, 4]),
            ("gate_up_proj", &[3, 4, 6]),
        ] {
            assert_eq!(parts(family, name, shape), None, "{name} {shape:?}");
        }
        let packed = parts(family, "model.layers.0.mlp.experts.gate_up_proj_blocks", &[3, 6, 2, 16]).unwrap();
        assert_eq!(packed.len(), 6);
        assert_eq!(packed[1].place, Place::Packed { expert: 0, first_row: Some(1) });
    }
}
