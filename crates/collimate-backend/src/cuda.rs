//! CubeCL's kernels on NVIDIA GPUs, with the plain forms of a decoder's operations. The driver is loaded at run time, so a
//! build needs no toolkit.

use std::path::Path;

use burn_cuda::{Cuda, CudaDevice};
use cudarc::driver::CudaContext;

use crate::ops::FusedOps;
use crate::{BackendError, DeviceInfo};

impl FusedOps for Cuda {}

/// What Linux has where NVIDIA's driver is loaded: the kernel module's version, or the Windows driver under WSL.
const DRIVER_FILES: [&str; 2] = ["/proc/driver/nvidia/version", "/dev/dxg"];

/// The device of an index that [`devices`] lists.
pub(crate) fn device(index: usize) -> CudaDevice {
    CudaDevice::new(index)
}

/// # Errors
/// No driver, or no GPU that it serves.
pub(crate) fn devices() -> Result<Vec<DeviceInfo>, BackendError> {
    let none = |reason: &str| BackendError::NoDevice { backend: "cuda", reason: reason.to_owned() };
    // Asked before the driver's library, whose absence ends the process.
    if cfg!(target_os = "linux") && !DRIVER_FILES.iter().any(|file| Path::new(file).exists()) {
        return Err(none("NVIDIA's driver is not loaded; install it, or use --backend flex"));
    }
    let count = CudaContext::device_count().map_err(|error| none(&format!("the driver says {error}")))?;
    let describe = |index: usize| {
        let context = CudaContext::new(index).map_err(|error| none(&format!("device {index}: {error}")))?;
        Ok(DeviceInfo {
            index,
            name: context.name().unwrap_or_else(|_| format!("CUDA device {index}")),
            memory_bytes: context.total_mem().ok().map(|bytes| bytes as u64),
            dtypes: vec!["float32"],
        })
    };
    match usize::try_from(count).unwrap_or(0) {
        0 => Err(none("the driver serves no GPU; CUDA_VISIBLE_DEVICES may hide it")),
        count => (0..count).map(describe).collect(),
    }
}
