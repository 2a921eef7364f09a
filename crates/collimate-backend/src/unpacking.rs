//! Which packed weights backends unpack on their device, and the memory that it takes. Known for backends that are not in this
//! build too, for forecasts.

use collimate_quantized::Format;

use crate::dtype::ComputeDtype;
use crate::ops::{FusedOps, PreparedBytes};
use crate::plain;

/// What weights of linear layers take on a backend beyond their numbers.
#[derive(Debug, Clone, Copy)]
pub struct WeightCosts {
    /// [`FusedOps::unpacking_bytes`](crate::FusedOps::unpacking_bytes).
    pub unpacking: fn(Option<Format>, ComputeDtype) -> u64,
    /// [`FusedOps::prepared_bytes`](crate::FusedOps::prepared_bytes).
    pub prepared: fn([usize; 2], ComputeDtype) -> Option<PreparedBytes>,
}

impl WeightCosts {
    /// Of a backend in this build.
    pub fn of<B: FusedOps>() -> Self {
        Self { unpacking: B::unpacking_bytes, prepared: B::prepared_bytes }
    }

    /// Of another one, all of which read plain weights as they are.
    pub(crate) fn absent(unpacking: fn(Option<Format>, ComputeDtype) -> u64) -> Self {
        Self { unpacking, prepared: |_, _| None }
    }
}

/// Whether a format is unpacked on the device, by CubeCL's kernels and by libtorch's operations.
pub(crate) fn on_device(format: Format) -> bool {
    matches!(format, Format::FourBit { .. } | Format::Int8)
}

/// By CubeCL's kernels: they write a weight in the dtype of the run.
pub(crate) fn by_kernels(format: Option<Format>, dtype: ComputeDtype) -> u64 {
    match format.is_some_and(on_device) {
        true => dtype.num_bytes(),
        false => plain::unpacking_bytes(dtype),
    }
}

/// By libtorch's operations. Four bits take three matrices of four bytes, of numbers, scales and positions of scales, where
/// rows begin with a block of their own; elsewhere numbers are rounded to the type of the file and back.
pub(crate) fn by_libtorch(format: Option<Format>, dtype: ComputeDtype) -> u64 {
    match format {
        Some(Format::FourBit { .. }) => 12,
        _ => plain::unpacking_bytes(dtype),
    }
}
