//! How the tensors of a model are divided among its files.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use collimate_files::ShardSize;
use collimate_hf::{HfError, ModelConfig};

use super::tensor_file::TensorFile;
use crate::shards;
use crate::stacked::{StoredTensor, stored_tensors};
use crate::storage_dtype::StorageDtype;
use crate::weights::{KeptTensor, WeightFiles};

/// A model, and the files that it was read from.
#[derive(Clone, Copy)]
pub(super) struct Whole<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) base: Option<&'a WeightFiles>,
}

impl<'a> Whole<'a> {
    pub(super) fn stored_name(&self, name: &str) -> String {
        self.base.map_or_else(|| name.to_owned(), |base| base.stored_name(self.config, name))
    }

    fn kept(&self) -> Vec<KeptTensor<'a>> {
        self.base.map(|base| base.kept(self.config)).unwrap_or_default()
    }

    /// Where each tensor goes.
    pub(super) fn layout(&self, dtype: StorageDtype, max_shard_size: ShardSize) -> Layout<'a> {
        let mut tensors = stored_tensors(self.config, dtype);
        for tensor in &mut tensors {
            tensor.spec.name = self.stored_name(&tensor.spec.name);
            tensor.parts.iter_mut().for_each(|part| part.name = self.stored_name(&part.name));
        }
        let kept = self.kept();
        let own = tensors.iter().map(|tensor| tensor.spec.num_elements() * tensor.dtype.num_bytes());
        let sizes: Vec<_> = own.chain(kept.iter().map(|tensor| tensor.bytes.len())).collect();
        let ranges = shards::divide(&sizes, max_shard_size.bytes());
        let names = (1..=ranges.len()).map(|number| shards::file_name(number, ranges.len())).collect();
        Layout { tensors, kept, ranges, names, num_bytes: sizes.iter().sum() }
    }
}

/// The tensors of a model's files, divided among them: first its own, then those that are kept.
pub(super) struct Layout<'a> {
    tensors: Vec<StoredTensor>,
    kept: Vec<KeptTensor<'a>>,
    ranges: Vec<Range<usize>>,
    /// The names of the files.
    pub(super) names: Vec<String>,
    pub(super) num_bytes: usize,
}

impl Layout<'_> {
    /// Creates the files, with what is kept in them.
    pub(super) fn create(&self, dir: &Path) -> Result<Vec<TensorFile>, HfError> {
        let own = self.tensors.len();
        let create = |(range, name): (&Range<usize>, &String)| {
            let tensors = &self.tensors[range.start.min(own)..range.end.min(own)];
            let kept = &self.kept[range.start.max(own) - own..range.end.max(own) - own];
            TensorFile::create(&dir.join(name), tensors, kept)
        };
        self.ranges.iter().zip(&self.names).map(create).collect()
    }

    /// The number of the file that holds each tensor.
    pub(super) fn shards(&self) -> BTreeMap<&str, usize> {
        let own = self.tensors.iter().map(|tensor| tensor.spec.name.as_str());
        own.chain(self.kept.iter().map(|tensor| tensor.name)).zip(self.numbers()).collect()
    }

    /// The number of the file that holds each parameter.
    pub(super) fn parameter_shards(&self) -> BTreeMap<&str, usize> {
        let parts = self.tensors.iter().zip(self.numbers());
        parts.flat_map(|(tensor, number)| tensor.parts.iter().map(move |part| (part.name.as_str(), number))).collect()
    }

    fn numbers(&self) -> impl Iterator<Item = usize> {
        self.ranges.iter().enumerate().flat_map(|(number, range)| range.clone().map(move |_| number))
    }

    pub(super) fn num_parameters(&self) -> usize {
        let kept = self.kept.iter().map(|tensor| tensor.shape.iter().product::<usize>());
        self.tensors.iter().map(|tensor| tensor.spec.num_elements()).chain(kept).sum()
    }
}
