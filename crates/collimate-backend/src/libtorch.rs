//! PyTorch's library through burn-tch, with the plain forms of a decoder's operations.
//!
//! libtorch finds its GPUs itself: they come first, in CUDA's order, and the CPU last.

use burn_tch::{LibTorch, LibTorchDevice};

use crate::DeviceInfo;
use crate::flex::total_memory;
use crate::ops::FusedOps;

impl FusedOps for LibTorch {}

fn num_gpus() -> usize {
    usize::try_from(tch::Cuda::device_count()).unwrap_or(0)
}

/// The device of an index that [`devices`] lists.
pub(crate) fn device(index: usize) -> LibTorchDevice {
    if index < num_gpus() { LibTorchDevice::Cuda(index) } else { LibTorchDevice::Cpu }
}

pub(crate) fn devices() -> Vec<DeviceInfo> {
    let gpus = (0..num_gpus()).map(|index| DeviceInfo {
        index,
        name: format!("CUDA device {index}"),
        // libtorch's C interface does not say.
        memory_bytes: None,
        dtypes: vec!["float32"],
    });
    let cpu = DeviceInfo {
        index: num_gpus(),
        name: format!("CPU, {} threads", tch::get_num_threads()),
        memory_bytes: total_memory(),
        dtypes: vec!["float32"],
    };
    gpus.chain(std::iter::once(cpu)).collect()
}
