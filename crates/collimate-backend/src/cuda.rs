//! CubeCL's kernels on NVIDIA GPUs.
//!
//! NVIDIA's libraries are loaded at run time, so a build needs none. Running needs the driver and, because each kernel is
//! compiled when it is first used, NVRTC and the headers of the CUDA toolkit.

use std::path::{Path, PathBuf};

use burn_cuda::{Cuda, CudaDevice};
use collimate_faults::tried;
use cudarc::driver::CudaContext;
use cudarc::nvrtc::compile_ptx;

use crate::devices::{DeviceMemory, FoundDevice, HasDevices, own_memory};
use crate::error::{BackendError, check_index};

/// Present on Linux if NVIDIA's driver is loaded: the kernel module's version, or the Windows driver under WSL.
const DRIVER_FILES: [&str; 2] = ["/proc/driver/nvidia/version", "/dev/dxg"];
/// Where CubeCL looks for a toolkit if `CUDA_PATH` is unset: a file, and the toolkit's folder if that file exists.
const TOOLKITS: [(&str, &str); 3] =
    [("/usr/local/cuda", "/usr/local/cuda"), ("/opt/cuda", "/opt/cuda"), ("/usr/bin/nvcc", "/usr")];
/// The header that every kernel includes, in the toolkit's folder.
const HEADER: &str = "include/cuda_runtime.h";

impl HasDevices for Cuda {
    const NAME: &'static str = "cuda";

    fn found() -> Result<Vec<FoundDevice>, BackendError> {
        (0..count()?).map(describe).collect()
    }

    fn memory(index: usize) -> Result<Option<DeviceMemory>, BackendError> {
        check_index(Self::NAME, index, count()?)?;
        Ok(describe(index)?.memory)
    }

    /// Opens nothing; burn does when the first tensor is created.
    fn device(index: usize) -> Result<CudaDevice, BackendError> {
        check_index(Self::NAME, index, count()?)?;
        check_toolkit()?;
        Ok(CudaDevice::new(index))
    }
}

/// Opens a context on the device, which the driver requires before it reports its memory, and closes it again.
fn describe(index: usize) -> Result<FoundDevice, BackendError> {
    let context = CudaContext::new(index).map_err(|error| no_device(&format!("device {index}: {error}")))?;
    Ok(FoundDevice {
        name: context.name().unwrap_or_else(|_| format!("CUDA device {index}")),
        memory: context.total_mem().ok().map(|bytes| own_memory(bytes as u64)),
    })
}

/// Number of GPUs, without opening a context on any.
fn count() -> Result<usize, BackendError> {
    // Checked before calling the driver's library, whose absence would end the process.
    if cfg!(target_os = "linux") && !DRIVER_FILES.iter().any(|file| Path::new(file).exists()) {
        return Err(no_device("NVIDIA's driver is not loaded; install it, or use --backend flex"));
    }
    let Some(count) = tried(CudaContext::device_count) else {
        return Err(no_device("NVIDIA's driver has no library here (libcuda); a container gets it with --gpus all"));
    };
    let count = count.map_err(|error| no_device(&format!("the driver says {error}")))?;
    match usize::try_from(count).unwrap_or(0) {
        0 => Err(no_device("the driver serves no GPU; CUDA_VISIBLE_DEVICES may hide it")),
        count => Ok(count),
    }
}

/// Checks for what CubeCL needs to compile kernels. It would otherwise panic in its own thread, after the model is loaded.
fn check_toolkit() -> Result<(), BackendError> {
    let folder = toolkit();
    if !folder.as_ref().is_some_and(|folder| folder.join(HEADER).is_file()) {
        let header = folder.unwrap_or_else(|| PathBuf::from(TOOLKITS[0].1)).join(HEADER);
        return Err(no_device(&format!(
            "kernels are compiled when they are first used, and {} is not there; `cargo xtask cuda` \
             makes a toolkit in the checkout, or let CUDA_PATH name the folder of an installed one",
            header.display()
        )));
    }
    match tried(|| compile_ptx("extern \"C\" __global__ void nothing() {}")) {
        Some(Ok(_)) => Ok(()),
        Some(Err(error)) => Err(no_device(&format!("NVRTC compiles nothing: {error}"))),
        None => Err(no_device("NVRTC (libnvrtc) is not found; put its folder of the CUDA toolkit on LD_LIBRARY_PATH")),
    }
}

/// The folder in which CubeCL will look for headers.
fn toolkit() -> Option<PathBuf> {
    let found = || TOOLKITS.iter().find(|(file, _)| Path::new(file).exists()).map(|(_, folder)| PathBuf::from(folder));
    let windows = || cfg!(windows).then(|| PathBuf::from("C:/Program Files/NVIDIA GPU Computing Toolkit/CUDA"));
    std::env::var_os("CUDA_PATH").map(PathBuf::from).or_else(found).or_else(windows)
}

fn no_device(reason: &str) -> BackendError {
    BackendError::NoDevice { backend: <Cuda>::NAME, reason: reason.to_owned() }
}
