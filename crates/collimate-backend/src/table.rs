//! The table of backends, and dispatch by a backend's name.

use collimate_kernels::MatmulPrecision;
use collimate_quantized::Format;

use crate::devices::{self, DeviceInfo, DeviceMemory, HasDevices};
use crate::dtype::ComputeDtype;
use crate::error::{BackendError, check_index};
use crate::ops::FusedOps;
use crate::packed::PackedTensor;
use crate::unpacking::{self, WeightCosts};

/// A backend known to this version, compiled in or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackendInfo {
    /// The name for `--backend`.
    pub name: &'static str,
    /// A sentence for help texts.
    pub summary: &'static str,
    /// Whether this build contains it.
    pub compiled: bool,
    /// Whether its training steps over recurrent layers agree with PyTorch's.
    pub trains_recurrent: bool,
}

/// Makes [`BACKENDS`] and [`with_backend`] from rows of name, condition, type, whether recurrent layers are trained, and summary.
macro_rules! backends {
    ($($name:literal, $condition:meta, $backend:ty, $recurrent:literal, $summary:literal;)*) => {
        /// Every backend known to this version.
        pub const BACKENDS: &[BackendInfo] = &[
            $(BackendInfo { name: $name, summary: $summary, compiled: cfg!($condition), trains_recurrent: $recurrent }),*
        ];

        /// Turns a backend's name into its type; the only place that does.
        fn with_backend<V: Visitor>(name: &str, visitor: V) -> Result<V::Output, BackendError> {
            match name {
                $(
                    #[cfg($condition)]
                    $name => visitor.visit::<$backend>(),
                )*
                _ => Err(missing(name)),
            }
        }
    };
}

backends! {
    "flex", all(), burn_flex::Flex, true, "burn's pure-Rust CPU backend, in every build";
    // The second pass of a step over recurrent layers changes weights there (docs/log.md).
    "libtorch", feature = "libtorch", burn_tch::LibTorch, false, "PyTorch's library, on CPUs and NVIDIA GPUs";
    // Nobody has tried them on a GPU.
    "cuda", feature = "cuda", burn_cuda::Cuda, false,
        "CubeCL's kernels on NVIDIA GPUs; needs the driver, and of the CUDA toolkit NVRTC and the headers";
    "wgpu", feature = "wgpu", burn_wgpu::Wgpu, false, "CubeCL's kernels through Vulkan or Metal";
}

/// What to do with a backend once its type is known.
trait Visitor {
    type Output;

    fn visit<B: HasDevices>(self) -> Result<Self::Output, BackendError>;
}

/// Work that runs on whichever backend the user chose.
pub trait BackendJob {
    /// What the work returns; must not mention the backend.
    type Output;

    /// Runs the work on `device` of backend `B`.
    fn run<B: FusedOps>(self, device: B::Device) -> Self::Output;
}

/// Runs `job` on the backend and device named.
///
/// # Errors
/// The backend is unknown or not compiled in, or has no device, or not this one.
pub fn dispatch<J: BackendJob>(backend: &str, device: usize, job: J) -> Result<J::Output, BackendError> {
    struct Run<J>(J, usize);

    impl<J: BackendJob> Visitor for Run<J> {
        type Output = J::Output;

        fn visit<B: HasDevices>(self) -> Result<J::Output, BackendError> {
            let Self(job, device) = self;
            Ok(job.run::<B>(B::device(device)?))
        }
    }

    with_backend(backend, Run(job, device))
}

/// The devices of a backend, in the order in which `--device` counts them.
///
/// Queries each of them, which takes some GPU memory for the duration of the call; a run that needs one device's memory
/// asks [`device_memory`].
///
/// # Errors
/// The backend is unknown or not compiled in, or has no device.
pub fn devices(backend: &str) -> Result<Vec<DeviceInfo>, BackendError> {
    struct Describe;

    impl Visitor for Describe {
        type Output = Vec<DeviceInfo>;

        fn visit<B: HasDevices>(self) -> Result<Vec<DeviceInfo>, BackendError> {
            devices::describe::<B>()
        }
    }

    with_backend(backend, Describe)
}

/// Memory that a run on a device can use, and what limits it, where known.
///
/// # Errors
/// The backend is unknown or not compiled in, or has no device, or not this one.
pub fn device_memory(backend: &str, device: usize) -> Result<Option<DeviceMemory>, BackendError> {
    struct Memory(usize);

    impl Visitor for Memory {
        type Output = Option<DeviceMemory>;

        fn visit<B: HasDevices>(self) -> Result<Option<DeviceMemory>, BackendError> {
            B::memory(self.0)
        }
    }

    with_backend(backend, Memory(device))
}

/// Whether resident weights of a format stay packed on a backend, in this build or not: it has kernels that unpack them.
///
/// # Errors
/// The backend is unknown.
pub fn keeps_packed(backend: &str, format: Format) -> Result<bool, BackendError> {
    struct Keeps(Format);

    impl Visitor for Keeps {
        type Output = bool;

        fn visit<B: HasDevices>(self) -> Result<bool, BackendError> {
            Ok(<B::Packed as PackedTensor<B>>::stays_packed(self.0))
        }
    }

    match with_backend(backend, Keeps(format)) {
        Err(BackendError::NotCompiled { .. }) => Ok(unpacking::on_device(format)),
        found => found,
    }
}

/// What weights take on a backend, in this build or not.
///
/// # Errors
/// The backend is unknown.
pub fn weight_costs(backend: &str) -> Result<WeightCosts, BackendError> {
    struct Costs;

    impl Visitor for Costs {
        type Output = WeightCosts;

        fn visit<B: HasDevices>(self) -> Result<WeightCosts, BackendError> {
            Ok(WeightCosts::of::<B>())
        }
    }

    match with_backend(backend, Costs) {
        Err(BackendError::NotCompiled { name: "libtorch", .. }) => Ok(WeightCosts::absent(unpacking::by_libtorch)),
        Err(BackendError::NotCompiled { .. }) => Ok(WeightCosts::absent(unpacking::by_kernels)),
        found => found,
    }
}

/// Checks that a device computes in `dtype`, before anything is loaded there.
///
/// # Errors
/// It does not, or the backend or device is missing.
pub fn check_dtype(backend: &str, device: usize, dtype: ComputeDtype) -> Result<(), BackendError> {
    // Every device supports float32; any other problem with it is reported when it is used.
    if dtype == ComputeDtype::Float32 {
        return Ok(());
    }
    let mut devices = devices(backend)?;
    check_index(backend, device, devices.len())?;
    let supported = devices.swap_remove(device).dtypes;
    match supported.contains(&dtype.name()) {
        true => Ok(()),
        false => {
            Err(BackendError::Dtype { backend: backend.to_owned(), index: device, dtype: dtype.name(), supported })
        }
    }
}

/// Whether a backend multiplies numbers of `dtype` as such; if it converts them to float32, `dtype` saves memory but no time.
///
/// # Errors
/// The backend is unknown or not compiled in.
pub fn multiplies_in(backend: &str, dtype: ComputeDtype) -> Result<bool, BackendError> {
    struct Multiplies(ComputeDtype);

    impl Visitor for Multiplies {
        type Output = bool;

        fn visit<B: HasDevices>(self) -> Result<bool, BackendError> {
            Ok(B::multiplies_in(self.0))
        }
    }

    with_backend(backend, Multiplies(dtype))
}

/// How exact products of float32 numbers are on a backend of this machine if `precision` is asked for.
///
/// # Errors
/// The backend is unknown or not compiled in, or does not have this precision.
pub fn matmul_precision(backend: &str, precision: MatmulPrecision) -> Result<MatmulPrecision, BackendError> {
    struct Precision(MatmulPrecision);

    impl Visitor for Precision {
        type Output = MatmulPrecision;

        fn visit<B: HasDevices>(self) -> Result<MatmulPrecision, BackendError> {
            let refused = || BackendError::Precision { backend: B::NAME, precision: self.0.name() };
            B::matmul_precision(self.0).ok_or_else(refused)
        }
    }

    with_backend(backend, Precision(precision))
}

/// Why a backend is not in this build.
fn missing(name: &str) -> BackendError {
    let compiled = BACKENDS.iter().filter(|known| known.compiled).map(|known| known.name).collect();
    match BACKENDS.iter().find(|known| known.name == name) {
        Some(known) => BackendError::NotCompiled { name: known.name, compiled },
        None => {
            let mut names = BACKENDS.iter().map(|known| known.name);
            let nearest = names.find(|known| strsim::damerau_levenshtein(known, name) <= 2);
            BackendError::Unknown { name: name.to_owned(), nearest, compiled }
        }
    }
}
