//! CubeCL's kernels on NVIDIA GPUs.
//!
//! NVIDIA's libraries are loaded at run time, so a build needs none. To run takes the driver, and of the toolkit the
//! compiler NVRTC and the headers: each kernel is compiled when it is first used.

use std::path::{Path, PathBuf};

use burn_cuda::CudaDevice;
use cudarc::driver::CudaContext;
use cudarc::nvrtc::compile_ptx;

use crate::faults::tried;
use crate::{BackendError, DeviceInfo, check_index};

/// What Linux has where NVIDIA's driver is loaded: the kernel module's version, or the Windows driver under WSL.
const DRIVER_FILES: [&str; 2] = ["/proc/driver/nvidia/version", "/dev/dxg"];
/// Where CubeCL looks for a toolkit that `CUDA_PATH` does not name: a file, and the folder that it shows to be one.
const TOOLKITS: [(&str, &str); 3] =
    [("/usr/local/cuda", "/usr/local/cuda"), ("/opt/cuda", "/opt/cuda"), ("/usr/bin/nvcc", "/usr")];
/// The header that every kernel includes, in the toolkit's folder.
const HEADER: &str = "include/cuda_runtime.h";

/// The device of an index that [`devices`] lists. Opens nothing: burn does, when the first tensor is made.
///
/// # Errors
/// No driver, no GPU that it serves, or none of this index; no compiler or headers for kernels.
pub(crate) fn device(index: usize) -> Result<CudaDevice, BackendError> {
    check_index("cuda", index, count()?)?;
    check_toolkit()?;
    Ok(CudaDevice::new(index))
}

/// # Errors
/// No driver, or no GPU that it serves.
pub(crate) fn devices() -> Result<Vec<DeviceInfo>, BackendError> {
    (0..count()?).map(describe).collect()
}

/// One device alone: a context is opened on it, since the driver tells its memory to nobody else, and closed again.
///
/// # Errors
/// No driver, no GPU that it serves, none of this index, or one that gives no context.
pub(crate) fn describe(index: usize) -> Result<DeviceInfo, BackendError> {
    check_index("cuda", index, count()?)?;
    let context = CudaContext::new(index).map_err(|error| none(&format!("device {index}: {error}")))?;
    Ok(DeviceInfo {
        index,
        name: context.name().unwrap_or_else(|_| format!("CUDA device {index}")),
        memory_bytes: context.total_mem().ok().map(|bytes| bytes as u64),
        dtypes: vec!["float32"],
    })
}

/// How many GPUs the driver serves, without a context on any.
fn count() -> Result<usize, BackendError> {
    // Asked before the driver's library, whose absence ends the process.
    if cfg!(target_os = "linux") && !DRIVER_FILES.iter().any(|file| Path::new(file).exists()) {
        return Err(none("NVIDIA's driver is not loaded; install it, or use --backend flex"));
    }
    let Some(count) = tried(CudaContext::device_count) else {
        return Err(none("NVIDIA's driver has no library here (libcuda); a container gets it with --gpus all"));
    };
    let count = count.map_err(|error| none(&format!("the driver says {error}")))?;
    match usize::try_from(count).unwrap_or(0) {
        0 => Err(none("the driver serves no GPU; CUDA_VISIBLE_DEVICES may hide it")),
        count => Ok(count),
    }
}

/// What CubeCL compiles kernels with. Looked for before there is a model: it would panic in a thread of its own.
fn check_toolkit() -> Result<(), BackendError> {
    let folder = toolkit();
    if !folder.as_ref().is_some_and(|folder| folder.join(HEADER).is_file()) {
        let place = folder.unwrap_or_else(|| PathBuf::from(TOOLKITS[0].1)).join(HEADER);
        return Err(none(&format!(
            "kernels are compiled when they are first used, and {} is not there; install the CUDA toolkit, or let CUDA_PATH \
             name its folder",
            place.display()
        )));
    }
    match tried(|| compile_ptx("extern \"C\" __global__ void nothing() {}")) {
        Some(Ok(_)) => Ok(()),
        Some(Err(error)) => Err(none(&format!("NVRTC compiles nothing: {error}"))),
        None => Err(none("NVRTC (libnvrtc) is not found; put its folder of the CUDA toolkit on LD_LIBRARY_PATH")),
    }
}

/// The folder where CubeCL will look for headers.
fn toolkit() -> Option<PathBuf> {
    let found = || TOOLKITS.iter().find(|(file, _)| Path::new(file).exists()).map(|(_, folder)| PathBuf::from(folder));
    let windows = || cfg!(windows).then(|| PathBuf::from("C:/Program Files/NVIDIA GPU Computing Toolkit/CUDA"));
    std::env::var_os("CUDA_PATH").map(PathBuf::from).or_else(found).or_else(windows)
}

fn none(reason: &str) -> BackendError {
    BackendError::NoDevice { backend: "cuda", reason: reason.to_owned() }
}
