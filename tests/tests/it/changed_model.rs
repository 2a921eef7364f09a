//! The small model with other weights.

use std::path::Path;

use collimate_files::ShardSize;
use collimate_hf::HostTensor;
use collimate_weights::{StorageDtype, WeightFiles, read_config, write_model};

use crate::harness::Folder;
use crate::small_model::model;

/// The small model with some of its weights changed.
pub(crate) fn changed_model(folder: &Folder, change: impl Fn(&str, &mut HostTensor)) -> String {
    let to = folder.copy(model(), "changed");
    let config = read_config(model()).expect("a configuration");
    let weights = WeightFiles::open(model()).expect("weights");
    let tensors: Vec<_> = config
        .tensors()
        .into_iter()
        .map(|spec| {
            let mut tensor = weights.read(&spec.name).expect("a tensor");
            change(&spec.name, &mut tensor);
            (spec.name, tensor)
        })
        .collect();
    write_model(Path::new(&to), &config, tensors, StorageDtype::F32, ShardSize::default()).expect("a model");
    to
}
