//! Which packed weights backends unpack on their device, and the memory that it takes. Known for backends that are not in this
//! build too, for forecasts.

use collimate_quantized::Format;

use crate::dtype::ComputeDtype;
use crate::plain;

/// Bytes for each number of a packed weight that a product takes to unpack it, by format and dtype of the run.
pub type UnpackingBytes = fn(Option<Format>, ComputeDtype) -> u64;

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
