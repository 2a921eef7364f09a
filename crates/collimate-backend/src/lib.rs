//! Compute backends behind one seam.
//!
//! Code that is generic over [`FusedOps`], a burn backend with the operations of a decoder, implements [`BackendJob`]; [`dispatch`] runs it on the backend that the
//! user named. This crate alone knows which backends are compiled in: it holds the only feature gates per backend.
//!
//! Knows nothing of models or objectives.

mod allocator;
#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "cuda")]
mod cuda;
mod dtype;
mod faults;
mod flex;
#[cfg(feature = "libtorch")]
mod libtorch;
mod ops;
#[cfg(test)]
mod ops_tests;
pub mod plain;
#[cfg(feature = "wgpu")]
mod wgpu;

pub use allocator::give_back_memory;
pub use dtype::{ComputeDtype, in_dtype, in_float32};
pub use faults::{guarded, reports_panic};
pub use ops::{
    AdamwStep, AttentionPlan, AttentionSaved, AttentionShape, DropoutRows, Factor, FusedOps, GateActivation, Gradient,
    OutputLayer, Rotary, Segment, TargetLogp,
};

/// Work that runs on whichever backend the user chose.
pub trait BackendJob {
    /// What the work returns; must not mention the backend.
    type Output;

    /// Does the work on `device` of backend `B`.
    fn run<B: FusedOps>(self, device: B::Device) -> Self::Output;
}

/// One device of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// What `--device` takes.
    pub index: usize,
    /// Name for people.
    pub name: String,
    /// Memory that the device can use, in bytes, where it is known.
    pub memory_bytes: Option<u64>,
    /// Float types that models can be computed in.
    pub dtypes: Vec<&'static str>,
}

/// A backend that this build knows of, compiled in or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackendInfo {
    /// What `--backend` takes.
    pub name: &'static str,
    /// One sentence for people.
    pub summary: &'static str,
    /// Whether this build contains it.
    pub compiled: bool,
}

/// Every backend that this version knows of.
pub const BACKENDS: &[BackendInfo] = &[
    BackendInfo { name: "flex", summary: "burn's pure-Rust CPU backend, in every build", compiled: true },
    BackendInfo {
        name: "libtorch",
        summary: "PyTorch's library, on CPUs and NVIDIA GPUs",
        compiled: cfg!(feature = "libtorch"),
    },
    BackendInfo {
        name: "cuda",
        summary: "CubeCL's kernels on NVIDIA GPUs; needs the driver, and of the CUDA toolkit NVRTC and the headers",
        compiled: cfg!(feature = "cuda"),
    },
    BackendInfo { name: "wgpu", summary: "CubeCL's kernels through Vulkan or Metal", compiled: cfg!(feature = "wgpu") },
];

/// Why a backend or device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// No backend has this name.
    #[error("unknown backend \"{name}\"{}; this build has: {}", suggestion(name), compiled_names())]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// The backend is known, and not in this build.
    #[error(
        "backend \"{name}\" is not in this build, which has: {}; `cargo xtask train --backend {name}` builds it in, and so \
         does `cargo build --release --features {name}`",
        compiled_names()
    )]
    NotCompiled {
        /// The name asked for.
        name: &'static str,
    },
    /// The backend finds nothing to compute on.
    #[error("backend \"{backend}\" finds no device: {reason}")]
    NoDevice {
        /// The backend asked for.
        backend: &'static str,
        /// What is missing, and what to do.
        reason: String,
    },
    /// The backend has fewer devices.
    #[error("backend \"{backend}\" has {count} device(s), so there is no device {index}; use --device 0 to {}", count.saturating_sub(1))]
    DeviceOutOfRange {
        /// The backend asked for.
        backend: String,
        /// The device asked for.
        index: usize,
        /// How many devices there are.
        count: usize,
    },
    /// The device has no memory left.
    #[error(
        "the device is out of memory ({said}): give the run a lower memory_budget, train an adapter (use_peft), or free what \
         other programs hold there"
    )]
    OutOfMemory {
        /// What the backend said, on one line.
        said: String,
    },
    /// The device does not compute in this type.
    #[error(
        "backend \"{backend}\" computes in {} on device {index}, not in {dtype}; {}",
        supported.join(", "),
        remedy(dtype)
    )]
    Dtype {
        /// The backend asked for.
        backend: String,
        /// The device asked for.
        index: usize,
        /// The type asked for.
        dtype: &'static str,
        /// Those that it has.
        supported: Vec<&'static str>,
    },
}

fn remedy(dtype: &str) -> String {
    format!("leave it at float32, or use a backend and device that `collimate backends` lists with {dtype}")
}

/// Runs `job` on the backend and device named.
///
/// # Errors
/// The backend is not known or not compiled in, or finds no device, or not this one.
pub fn dispatch<J: BackendJob>(backend: &str, device: usize, job: J) -> Result<J::Output, BackendError> {
    match backend {
        "flex" => Ok(job.run::<burn_flex::Flex>(flex::device(device)?)),
        #[cfg(feature = "libtorch")]
        "libtorch" => Ok(job.run::<burn_tch::LibTorch>(libtorch::device(device)?)),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(job.run::<burn_cuda::Cuda>(cuda::device(device)?)),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(job.run::<burn_wgpu::Wgpu>(wgpu::device(device)?)),
        _ => Err(not_there(backend)),
    }
}

/// The devices of a backend, in the order that `--device` counts them. Asks each of them, which on a GPU takes memory of it
/// for the time: what a run needs to know is in [`device_memory`].
///
/// # Errors
/// The backend is not known or not compiled in, or finds no device.
pub fn devices(backend: &str) -> Result<Vec<DeviceInfo>, BackendError> {
    match backend {
        "flex" => Ok(flex::devices()),
        #[cfg(feature = "libtorch")]
        "libtorch" => {
            Ok(with_bfloat16::<burn_tch::LibTorch>(libtorch::devices(), |index| libtorch::device(index).ok()))
        }
        #[cfg(feature = "cuda")]
        "cuda" => Ok(with_bfloat16::<burn_cuda::Cuda>(cuda::devices()?, |index| cuda::device(index).ok())),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(with_bfloat16::<burn_wgpu::Wgpu>(wgpu::devices()?, |index| wgpu::device(index).ok())),
        _ => Err(not_there(backend)),
    }
}

/// Memory that a device can use, in bytes, where it is known. Asks no other device.
///
/// # Errors
/// The backend is not known or not compiled in, or finds no device, or not this one.
pub fn device_memory(backend: &str, device: usize) -> Result<Option<u64>, BackendError> {
    match backend {
        #[cfg(feature = "cuda")]
        "cuda" => Ok(cuda::describe(device)?.memory_bytes),
        _ => {
            let devices = devices(backend)?;
            check_index(backend, device, devices.len())?;
            Ok(devices[device].memory_bytes)
        }
    }
}

/// Adds bfloat16 to the types of those devices that compute in it.
#[cfg(any(feature = "libtorch", feature = "cuda", feature = "wgpu"))]
fn with_bfloat16<B: burn::tensor::backend::Backend>(
    mut devices: Vec<DeviceInfo>,
    device: impl Fn(usize) -> Option<B::Device>,
) -> Vec<DeviceInfo> {
    let bfloat16 = ComputeDtype::Bfloat16;
    for info in &mut devices {
        let has_it = device(info.index).is_some_and(|device| B::supports_dtype(&device, bfloat16.of_tensors()));
        if has_it && !info.dtypes.contains(&bfloat16.name()) {
            info.dtypes.push(bfloat16.name());
        }
    }
    devices
}

/// Whether a device computes in a type, before anything is loaded there.
///
/// # Errors
/// It does not; or the backend or device is not there.
pub fn check_dtype(backend: &str, device: usize, dtype: ComputeDtype) -> Result<(), BackendError> {
    // Every device has float32, and what else is wrong with it is said where it is used.
    if dtype == ComputeDtype::Float32 {
        return Ok(());
    }
    let devices = devices(backend)?;
    match devices.get(device) {
        Some(info) if info.dtypes.contains(&dtype.name()) => Ok(()),
        Some(info) => Err(BackendError::Dtype {
            backend: backend.to_owned(),
            index: device,
            dtype: dtype.name(),
            supported: info.dtypes.clone(),
        }),
        None => {
            Err(BackendError::DeviceOutOfRange { backend: backend.to_owned(), index: device, count: devices.len() })
        }
    }
}

/// An index below the number of devices.
fn check_index(backend: &str, index: usize, count: usize) -> Result<(), BackendError> {
    match index < count {
        true => Ok(()),
        false => Err(BackendError::DeviceOutOfRange { backend: backend.to_owned(), index, count }),
    }
}

/// Why a backend is not among those of this build.
fn not_there(backend: &str) -> BackendError {
    match BACKENDS.iter().find(|known| known.name == backend) {
        Some(known) => BackendError::NotCompiled { name: known.name },
        None => BackendError::Unknown { name: backend.to_owned() },
    }
}

fn compiled_names() -> String {
    let names: Vec<_> = BACKENDS.iter().filter(|b| b.compiled).map(|b| b.name).collect();
    names.join(", ")
}

fn suggestion(name: &str) -> String {
    let near = BACKENDS.iter().find(|b| strsim::damerau_levenshtein(b.name, name) <= 2);
    near.map(|b| format!(" (did you mean \"{}\"?)", b.name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sum;

    impl BackendJob for Sum {
        type Output = f32;

        fn run<B: FusedOps>(self, device: B::Device) -> f32 {
            let x = burn::tensor::Tensor::<B, 1>::from_data([1.0f32, 2.0, 4.0], &device);
            x.sum().into_data().convert::<f32>().to_vec().expect("one float")[0]
        }
    }

    #[test]
    fn a_job_runs_on_the_backend_named() {
        assert_eq!(dispatch("flex", 0, Sum), Ok(1.0 + 2.0 + 4.0));
    }

    #[test]
    fn unknown_backends_and_devices_are_refused_with_the_remedy() {
        let unknown = dispatch("flx", 0, Sum).expect_err("no such backend");
        let expected = "unknown backend \"flx\" (did you mean \"flex\"?); this build has: flex";
        assert!(unknown.to_string().starts_with(expected), "{unknown}");
        let device = dispatch("flex", 3, Sum).expect_err("no such device");
        assert!(device.to_string().contains("no device 3"), "{device}");
        assert_eq!(device_memory("flex", 3), Err(device));
    }

    #[test]
    fn a_type_that_a_backend_does_not_compute_in_is_refused_with_those_that_it_has() {
        assert_eq!(check_dtype("flex", 0, ComputeDtype::Float32), Ok(()));
        let error = check_dtype("flex", 0, ComputeDtype::Bfloat16).expect_err("float32 only").to_string();
        let expected = "backend \"flex\" computes in float32 on device 0, not in bfloat16; leave it at float32, or";
        assert!(error.starts_with(expected), "{error}");
        assert!(
            check_dtype("flex", 3, ComputeDtype::Bfloat16)
                .is_err_and(|error| error.to_string().contains("no device 3"))
        );
    }

    #[test]
    fn a_known_backend_that_is_not_compiled_in_says_how_to_get_it() {
        for backend in BACKENDS.iter().filter(|backend| !backend.compiled) {
            let message = devices(backend.name).expect_err("not compiled in").to_string();
            assert!(message.contains(&format!("cargo xtask train --backend {}", backend.name)), "{message}");
        }
        assert!(devices("flex").is_ok_and(|devices| devices.len() == 1));
        assert_eq!(device_memory("flex", 0), Ok(devices("flex").expect("the CPU")[0].memory_bytes));
    }
}
