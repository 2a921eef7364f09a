//! Why a backend or device cannot be used.

/// Why a backend or device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// There is no backend of this name.
    #[error(
        "unknown backend \"{name}\"{}; this build has: {}",
        nearest.map(|name| format!(" (did you mean \"{name}\"?)")).unwrap_or_default(),
        compiled.join(", ")
    )]
    Unknown {
        /// The requested name.
        name: String,
        /// The known backend whose name is close to it.
        nearest: Option<&'static str>,
        /// The backends of this build.
        compiled: Vec<&'static str>,
    },
    /// The backend is known but not in this build.
    #[error(
        "backend \"{name}\" is not in this build, which has: {}; `cargo xtask train --backend {name}` builds it in, and so \
         does `cargo build --release --features {name}`",
        compiled.join(", ")
    )]
    NotCompiled {
        /// The requested backend.
        name: &'static str,
        /// The backends of this build.
        compiled: Vec<&'static str>,
    },
    /// The backend finds no device.
    #[error("backend \"{backend}\" finds no device: {reason}")]
    NoDevice {
        /// The requested backend.
        backend: &'static str,
        /// What is missing, and the remedy.
        reason: String,
    },
    /// The device index is too large.
    #[error("backend \"{backend}\" has {count} device(s), so there is no device {index}; use --device 0 to {}", count.saturating_sub(1))]
    DeviceOutOfRange {
        /// The requested backend.
        backend: String,
        /// The requested device.
        index: usize,
        /// Number of devices.
        count: usize,
    },
    /// The device is out of memory.
    #[error(
        "the device is out of memory ({said}): give the run a lower memory_budget, train an adapter (use_peft), or free what \
         other programs hold there"
    )]
    OutOfMemory {
        /// The backend's message, on one line.
        said: String,
    },
    /// The device does not compute in this dtype.
    #[error(
        "backend \"{backend}\" computes in {} on device {index}, not in {dtype}; leave it at float32, or use a backend and \
         device that `collimate backends` lists with {dtype}",
        supported.join(", ")
    )]
    Dtype {
        /// The requested backend.
        backend: String,
        /// The requested device.
        index: usize,
        /// The requested dtype.
        dtype: &'static str,
        /// The dtypes that the device supports.
        supported: Vec<&'static str>,
    },
    /// The backend does not have this precision of products.
    #[error("backend \"{backend}\" has no float32_matmul_precision but highest, not {precision}; flex has it")]
    Precision {
        /// The requested backend.
        backend: &'static str,
        /// The requested precision.
        precision: &'static str,
    },
}

/// Runs work on a backend and turns an out-of-memory panic into an error. Other panics propagate.
///
/// # Errors
/// The device is out of memory.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, BackendError> {
    collimate_faults::guarded(work).map_err(|said| BackendError::OutOfMemory { said })
}

/// Refuses an index that is not below the number of devices.
pub(crate) fn check_index(backend: &str, index: usize, count: usize) -> Result<(), BackendError> {
    match index < count {
        true => Ok(()),
        false => Err(BackendError::DeviceOutOfRange { backend: backend.to_owned(), index, count }),
    }
}
