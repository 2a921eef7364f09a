//! Compute backends behind one seam.
//!
//! Code that is generic over [`FusedOps`], a burn backend with the operations of a decoder, implements [`BackendJob`]; [`dispatch`] runs it on the backend that the
//! user named. This crate alone knows which backends are compiled in: it holds the only feature gates per backend.
//!
//! Knows nothing of models or objectives.

mod allocator;
mod flex;
mod ops;
#[cfg(test)]
mod ops_tests;
pub mod plain;

pub use allocator::give_back_memory;
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
pub const BACKENDS: &[BackendInfo] =
    &[BackendInfo { name: "flex", summary: "burn's pure-Rust CPU backend, in every build", compiled: true }];

/// Why a backend or device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// No backend has this name.
    #[error("unknown backend \"{name}\"{}; this build has: {}", suggestion(name), compiled_names())]
    Unknown {
        /// The name asked for.
        name: String,
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
}

/// Runs `job` on the backend and device named.
///
/// # Errors
/// The backend is not known or not compiled in, or the device does not exist.
pub fn dispatch<J: BackendJob>(backend: &str, device: usize, job: J) -> Result<J::Output, BackendError> {
    let count = devices(backend)?.len();
    if device >= count {
        return Err(BackendError::DeviceOutOfRange { backend: backend.to_owned(), index: device, count });
    }
    match backend {
        "flex" => Ok(job.run::<burn_flex::Flex>(flex::device())),
        _ => Err(BackendError::Unknown { name: backend.to_owned() }),
    }
}

/// The devices of a backend, in the order that `--device` counts them.
///
/// # Errors
/// The backend is not known or not compiled in.
pub fn devices(backend: &str) -> Result<Vec<DeviceInfo>, BackendError> {
    match backend {
        "flex" => Ok(flex::devices()),
        _ => Err(BackendError::Unknown { name: backend.to_owned() }),
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
        assert_eq!(unknown.to_string(), "unknown backend \"flx\" (did you mean \"flex\"?); this build has: flex");
        let device = dispatch("flex", 3, Sum).expect_err("no such device");
        assert!(device.to_string().contains("no device 3"), "{device}");
    }
}
