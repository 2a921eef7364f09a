//! The table of backends, and dispatch by a backend's name.

use collimate_kernels::MatmulPrecision;
use collimate_quantized::Format;

use crate::devices::{self, DeviceInfo, DeviceMemory, HasDevices};
use crate::dtype::ComputeDtype;
use crate::error::{BackendError, check_index};
use crate::ops::FusedOps;
use crate::packed::PackedTensor;
use crate::unpacking::{self, UnpackingBytes};

/// A backend known to this version, compiled in or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackendInfo {
    /// The name for `--backend`.
    pub name: &'static str,
    /// A sentence for help texts.
    pub summary: &'static str,
    /// Whether this build contains it.
    pub compiled: bool,
}

/// Makes [`BACKENDS`] and [`with_backend`] from rows of name, condition, type and summary.
macro_rules! backends {
    ($($name:literal, $condition:meta, $backend:ty, $summary:literal;)*) => {
        /// Every backend known to this version.
        pub const BACKENDS: &[BackendInfo] =
            &[$(BackendInfo { name: $name, summary: $summary, compiled: cfg!($condition) }),*];

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
    "flex", all(), burn_flex::Flex, "burn's pure-Rust CPU backend, in every build";
    "libtorch", feature = "libtorch", burn_tch::LibTorch, "PyTorch's library, on CPUs and NVIDIA GPUs";
    "cuda", feature = "cuda", burn_cuda::Cuda,
        "CubeCL's kernels on NVIDIA GPUs; needs the driver, and of the CUDA toolkit NVRTC and the headers";
    "wgpu", feature = "wgpu", burn_wgpu::Wgpu, "CubeCL's kernels through Vulkan or Metal";
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

/// [`FusedOps::unpacking_bytes`] of a backend, in this build or not.
///
/// # Errors
/// The backend is unknown.
pub fn unpacking_bytes(backend: &str) -> Result<UnpackingBytes, BackendError> {
    struct Bytes;

    impl Visitor for Bytes {
        type Output = UnpackingBytes;

        fn visit<B: HasDevices>(self) -> Result<UnpackingBytes, BackendError> {
            Ok(B::unpacking_bytes)
        }
    }

    match with_backend(backend, Bytes) {
        Err(BackendError::NotCompiled { name: "libtorch", .. }) => Ok(unpacking::by_libtorch),
        Err(BackendError::NotCompiled { .. }) => Ok(unpacking::by_kernels),
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
    fn backends_keep_the_formats_packed_that_they_have_kernels_for() {
        for format in [Format::NF4, Format::NF4_DOUBLE, Format::Int8] {
            for backend in BACKENDS {
                assert_eq!(keeps_packed(backend.name, format), Ok(true), "{} {format}", backend.name);
            }
        }
        for format in [Format::Mxfp4, Format::Awq { group: 128 }] {
            for backend in BACKENDS {
                assert_eq!(keeps_packed(backend.name, format), Ok(backend.name == "flex"), "{} {format}", backend.name);
            }
        }
        assert!(keeps_packed("flx", Format::Int8).is_err());
    }

    #[test]
    fn a_product_takes_memory_for_a_weight_that_it_does_not_unpack_by_panels() {
        let (float32, bfloat16) = (ComputeDtype::Float32, ComputeDtype::Bfloat16);
        for backend in BACKENDS {
            let bytes = unpacking_bytes(backend.name).expect("a known backend");
            let taken = |format| [bytes(format, float32), bytes(format, bfloat16)];
            let of = [Some(Format::NF4), Some(Format::Int8), Some(Format::Mxfp4), None].map(taken);
            let expected = match backend.name {
                "flex" => [[0, 0]; 4],
                "libtorch" => [[12, 12], [4, 4 + 2], [4, 4 + 2], [4, 4 + 2]],
                // A kernel writes what the product reads; other formats are uploaded in float32.
                _ => [[4, 2], [4, 2], [4, 4 + 2], [4, 4 + 2]],
            };
            assert_eq!(of, expected, "{}", backend.name);
        }
        assert!(unpacking_bytes("flx").is_err());
    }

    #[test]
    fn a_type_that_a_backend_does_not_compute_in_is_refused_with_those_that_it_has() {
        for dtype in ComputeDtype::ALL {
            assert_eq!(check_dtype("flex", 0, dtype), Ok(()));
        }
        let supported = vec!["float32"];
        let error =
            BackendError::Dtype { backend: "wgpu".to_owned(), index: 0, dtype: "bfloat16", supported }.to_string();
        let expected = "backend \"wgpu\" computes in float32 on device 0, not in bfloat16; leave it at float32, or";
        assert!(error.starts_with(expected), "{error}");
        assert!(
            check_dtype("flex", 3, ComputeDtype::Bfloat16)
                .is_err_and(|error| error.to_string().contains("no device 3"))
        );
    }

    #[test]
    fn flex_multiplies_in_bfloat16_where_the_processor_does() {
        let products = collimate_kernels::bfloat16_products().is_some();
        assert_eq!(multiplies_in("flex", ComputeDtype::Bfloat16), Ok(products));
        assert_eq!(multiplies_in("flex", ComputeDtype::Float32), Ok(true));
        assert!(multiplies_in("flx", ComputeDtype::Float32).is_err());
    }

    #[test]
    fn only_flex_has_lower_precisions() {
        for precision in MatmulPrecision::ALL {
            assert_eq!(matmul_precision("flex", precision), Ok(precision.on_this_processor()));
            for backend in BACKENDS.iter().filter(|backend| backend.compiled && backend.name != "flex") {
                assert_eq!(matmul_precision(backend.name, precision).is_ok(), precision == MatmulPrecision::Highest);
            }
        }
    }

    #[test]
    fn a_known_backend_that_is_not_compiled_in_says_how_to_get_it() {
        for backend in BACKENDS.iter().filter(|backend| !backend.compiled) {
            let message = devices(backend.name).expect_err("not compiled in").to_string();
            assert!(message.contains(&format!("cargo xtask train --backend {}", backend.name)), "{message}");
        }
        assert!(devices("flex").is_ok_and(|devices| devices.len() == 1));
        assert_eq!(device_memory("flex", 0), Ok(devices("flex").expect("the CPU")[0].memory.clone()));
    }
}
