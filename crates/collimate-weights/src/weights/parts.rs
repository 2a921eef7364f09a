//! Parameters that a file has in one tensor with others, as if they were tensors of their own.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use collimate_hf::{HfError, StatedText};
use collimate_quantized::{PackedMatrix, QuantizedError, read_experts};
use safetensors::tensor::TensorInfo;

use super::mapped::MappedFile;
use super::packed::{Storage, piece_of};
use super::{Holder, WeightFiles};
use crate::stacked::{self, Place, View};

/// What names of packed experts end in.
const CODES: &str = "_blocks";
const SCALES: &str = "_scales";
/// Limit on the matrices in the tensors of a folder: more are broken files, and their names would exhaust memory.
const MOST_PARTS: usize = 300_000;

/// A parameter that is a part of a tensor.
#[derive(Debug)]
pub(super) struct Part {
    /// Its type and shape, and the bytes that it shares with no other expert.
    pub(super) info: TensorInfo,
    place: Place,
}

impl Part {
    /// A part of a tensor; `None` if its bytes are not whole numbers.
    fn new(place: Place, tensor: &TensorInfo) -> Option<Self> {
        let (start, end) = tensor.data_offsets;
        let (shape, numbers, all) = match &place {
            Place::Plain(view) => (view.shape.clone(), view.block.clone(), tensor.shape.iter().product::<usize>()),
            Place::Packed { expert, .. } => {
                (tensor.shape.get(1..).unwrap_or_default().to_vec(), *expert..expert + 1, *tensor.shape.first()?)
            }
        };
        let size = (end - start).checked_div(all)?;
        let data_offsets = (start + numbers.start * size, start + numbers.end * size);
        Some(Self { info: TensorInfo { dtype: tensor.dtype, shape, data_offsets }, place })
    }

    /// The numbers, in the order of the parameter.
    fn ordered<'a>(&self, block: &'a [u8]) -> Cow<'a, [u8]> {
        match &self.place {
            Place::Plain(view) if !view.is_whole_block() => Cow::Owned(gathered(view, block)),
            _ => Cow::Borrowed(block),
        }
    }
}

fn gathered(view: &View, block: &[u8]) -> Vec<u8> {
    let size = block.len() / view.block.len().max(1);
    let mut out = Vec::with_capacity(view.len() * size);
    view.places().for_each(|place| out.extend_from_slice(&block[place * size..(place + 1) * size]));
    out
}

impl WeightFiles {
    /// Takes tensors that hold several experts apart, and passes over those of heads that predict further tokens.
    pub(super) fn divide(&mut self, text: &StatedText) -> Result<(), HfError> {
        let path = self.path.clone();
        let layers = format!("{}.layers.", text.root());
        if let Some(num_layers) = text.layers_before_predictors {
            self.pass_over_layers(&layers, num_layers);
        }
        let mut holders = BTreeMap::new();
        let mut insert = |name: String, holder: Holder| match holders.insert(name.clone(), holder) {
            None => Ok(()),
            Some(_) => Err(HfError::DuplicateTensor { path: path.clone(), tensor: name }),
        };
        let mut left = MOST_PARTS;
        let mut codes = BTreeSet::new();
        for (name, holder) in std::mem::take(&mut self.holders) {
            let stored = holder.stored.as_deref().unwrap_or(&name);
            let tensor = self.files[holder.file].header.info(stored).filter(|_| name.starts_with(&layers));
            let parts = tensor.and_then(|tensor| Some((tensor, stacked::parts(text.family, &name, &tensor.shape)?)));
            let Some((tensor, parts)) = parts.filter(|(_, parts)| parts.len() <= left) else {
                insert(name, holder)?;
                continue;
            };
            left -= parts.len();
            codes.extend(stored.strip_suffix(CODES).map(str::to_owned));
            for part in parts {
                let holder = Holder {
                    file: holder.file,
                    stored: Some(stored.into()),
                    part: Part::new(part.place, tensor).map(Box::new),
                };
                insert(part.name, holder)?;
            }
        }
        // Scales of the codes that were divided.
        holders.retain(|name, _| !name.strip_suffix(SCALES).is_some_and(|start| codes.contains(start)));
        self.holders = holders;
        Ok(())
    }

    fn pass_over_layers(&mut self, start: &str, layers: u64) {
        let is_beyond = |name: &String| {
            let number = name.strip_prefix(start).and_then(|rest| rest.split('.').next()?.parse::<u64>().ok());
            number.is_some_and(|number| number >= layers)
        };
        let before = self.holders.len();
        self.holders.retain(|name, _| !is_beyond(name));
        let passed = before - self.holders.len();
        if passed > 0 {
            let path = self.path.display();
            self.notes.push(format!(
                "{path}: passed over {passed} {} of layers from {layers} on, which predict further tokens",
                if passed == 1 { "tensor" } else { "tensors" }
            ));
        }
    }

    /// The numbers of a tensor as its file has them, in the tensor's order.
    pub(super) fn numbers<'a>(&'a self, name: &str, file: &'a MappedFile, info: &TensorInfo) -> Cow<'a, [u8]> {
        let block = &file.bytes[file.range(info)];
        match self.part(name) {
            Some(part) => part.ordered(block),
            None => Cow::Borrowed(block),
        }
    }

    pub(super) fn part(&self, name: &str) -> Option<&Part> {
        self.holders.get(name)?.part.as_deref()
    }

    /// The packed weight of one expert; `None` if the parameter is none.
    pub(super) fn packed_expert(&self, name: &str, storage: Storage) -> Option<Result<PackedMatrix, QuantizedError>> {
        let holder = self.holders.get(name)?;
        let Place::Packed { expert, first_row } = holder.part.as_ref()?.place else { return None };
        let stem = holder.stored.as_deref()?.strip_suffix(CODES)?;
        let lookup = |tensor: &str| {
            let (file, info) = self.files.iter().find_map(|file| Some((file, file.header.info(tensor)?)))?;
            let size = (info.data_offsets.1 - info.data_offsets.0).checked_div(*info.shape.first()?)?;
            // Scales may be of fewer experts than codes.
            let range = file.range(info);
            let start = range.start.checked_add(expert.checked_mul(size)?)?;
            let end = start.checked_add(size).filter(|end| *end <= range.end)?;
            let mut piece = piece_of(info, file.shared.slice(start..end), storage);
            piece.shape[0] = 1;
            Some(piece)
        };
        let packed = read_experts(stem, &lookup).and_then(|experts| {
            let matrix = experts.and_then(|experts| experts.into_iter().next());
            let matrix = matrix.ok_or_else(|| QuantizedError::Missing {
                tensor: format!("{stem}{CODES}"),
                weight: name.to_owned(),
                format: "MXFP4",
            })?;
            Ok(match first_row {
                Some(first) => matrix.every_other_row(first),
                None => matrix,
            })
        });
        Some(packed)
    }
}
