//! What a backend reports about its devices.

use std::fmt;

use collimate_machine::{LimitSource, memory_limit};

use collimate_kernels::MatmulPrecision;

use crate::dtype::ComputeDtype;
use crate::error::{BackendError, check_index};
use crate::ops::FusedOps;

/// One device of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The index for `--device`.
    pub index: usize,
    /// Display name.
    pub name: String,
    /// Memory that the device can use, where known.
    pub memory: Option<DeviceMemory>,
    /// Names of the [`ComputeDtype`]s that the device computes in.
    pub dtypes: Vec<&'static str>,
}

/// Memory that a run on a device can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceMemory {
    /// In bytes.
    pub bytes: u64,
    /// What limits the memory of this process, for a device that uses it; `None` for a device with memory of its own.
    pub source: Option<LimitSource>,
}

impl fmt::Display for DeviceMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => source.fmt(f),
            None => f.write_str("the device's memory"),
        }
    }
}

/// A device as found by a backend, before its dtypes are queried.
#[derive(Debug)]
pub(crate) struct FoundDevice {
    /// Display name.
    pub(crate) name: String,
    /// Memory that the device can use, where known.
    pub(crate) memory: Option<DeviceMemory>,
}

/// A backend that lists and opens its devices, as its row of the table requires.
pub(crate) trait HasDevices: FusedOps {
    /// The backend's name in the table.
    const NAME: &'static str;

    /// Its devices, in the order in which `--device` counts them. May take GPU memory for the duration of the call.
    ///
    /// # Errors
    /// No device is found.
    fn found() -> Result<Vec<FoundDevice>, BackendError>;

    /// One device's memory, without opening the others if the backend can avoid it.
    ///
    /// # Errors
    /// No device is found, or not this one.
    fn memory(index: usize) -> Result<Option<DeviceMemory>, BackendError> {
        let mut found = Self::found()?;
        check_index(Self::NAME, index, found.len())?;
        Ok(found.swap_remove(index).memory)
    }

    /// burn's device for an index. Opens no other device.
    ///
    /// # Errors
    /// No device is found, or not this one.
    fn device(index: usize) -> Result<Self::Device, BackendError>;

    /// Whether models compute in `dtype` on the device.
    fn computes_in(device: &Self::Device, dtype: ComputeDtype) -> bool {
        Self::supports_dtype(device, dtype.burn_dtype())
    }

    /// Whether products of factors in `dtype` are computed as such; otherwise they are converted to float32, which saves memory
    /// but no time.
    fn multiplies_in(_dtype: ComputeDtype) -> bool {
        true
    }

    /// How exact products of float32 numbers are on this machine if `precision` is asked for; `None` if the backend does not have
    /// it.
    fn matmul_precision(precision: MatmulPrecision) -> Option<MatmulPrecision> {
        (precision == MatmulPrecision::Highest).then_some(precision)
    }
}

/// All devices of a backend with their dtypes.
pub(crate) fn describe<B: HasDevices>() -> Result<Vec<DeviceInfo>, BackendError> {
    let describe = |(index, found): (usize, FoundDevice)| {
        // float32 is always supported, and a device that cannot be opened reports an error when a run uses it.
        let has = |dtype| {
            dtype == ComputeDtype::Float32 || B::device(index).is_ok_and(|device| B::computes_in(&device, dtype))
        };
        let dtypes = ComputeDtype::ALL.into_iter().filter(|&dtype| has(dtype)).map(ComputeDtype::name).collect();
        DeviceInfo { index, name: found.name, memory: found.memory, dtypes }
    };
    Ok(B::found()?.into_iter().enumerate().map(describe).collect())
}

/// Memory of a device of its own.
#[cfg_attr(not(any(feature = "cuda", feature = "libtorch")), allow(dead_code))]
pub(crate) fn own_memory(bytes: u64) -> DeviceMemory {
    DeviceMemory { bytes, source: None }
}

/// The machine's memory, as far as this process may use it; `None` where the system does not say.
pub(crate) fn machine_memory() -> Option<DeviceMemory> {
    memory_limit().map(|limit| DeviceMemory { bytes: limit.bytes, source: Some(limit.source) })
}
