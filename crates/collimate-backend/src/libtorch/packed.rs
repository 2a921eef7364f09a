//! Packed weights on libtorch: their bytes stay on the device, and each product unpacks them by libtorch's operations.
//!
//! Each step is an operation of its own, rounded on its own, so numbers are unpacked to the bits of the host.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{DType, Tensor as BurnTensor, TensorPrimitive};
use burn_tch::{LibTorch, LibTorchDevice, TchTensor};
use collimate_quantized::{FloatDtype, Format, FourBit, Int8, PackedMatrix, Packing, ScaleOrder, Scales};
use tch::{Device, Kind, Tensor};

use crate::dtype::in_dtype;
use crate::packed::{HostPacked, PackedTensor};
use crate::unpacking;

type Matrix = BurnTensor<LibTorch, 2>;

/// A packed weight where libtorch unpacks it.
#[derive(Debug, Clone)]
pub struct TorchPacked(Place);

#[derive(Debug, Clone)]
enum Place {
    /// On the device. The lock is there because tensors of `tch` may be sent to other threads, but not shared.
    Device(Arc<Mutex<OnDevice>>),
    /// In a file, or in a format that is unpacked on the host: each product uploads it, packed if it can.
    Host(Box<HostPacked>),
}

impl PackedTensor<LibTorch> for TorchPacked {
    fn stays_packed(format: Format) -> bool {
        unpacking::on_device(format)
    }

    fn new(weight: HostPacked, device: &LibTorchDevice) -> Self {
        let resident = weight.packed().filter(|_| !weight.is_in_file());
        match resident.and_then(|matrix| OnDevice::new(matrix, Device::from(*device))) {
            Some(on_device) => Self(Place::Device(Arc::new(Mutex::new(on_device)))),
            None => Self(Place::Host(Box::new(weight))),
        }
    }

    fn unpack(&self, device: &LibTorchDevice) -> Matrix {
        let weight = match &self.0 {
            Place::Device(on_device) => {
                return matrix(on_device.lock().unwrap_or_else(PoisonError::into_inner).unpack());
            }
            Place::Host(weight) => weight,
        };
        match weight.packed().and_then(|matrix| OnDevice::new(matrix, Device::from(*device))) {
            Some(on_device) => {
                weight.release();
                matrix(on_device.unpack())
            }
            None => PackedTensor::<LibTorch>::unpack(&**weight, device),
        }
    }

    fn unpack_in(&self, dtype: DType, device: &LibTorchDevice) -> Matrix {
        in_dtype(self.unpack(device), dtype)
    }

    fn prefetch(&self) {
        if let Place::Host(weight) = &self.0 {
            PackedTensor::<LibTorch>::prefetch(&**weight);
        }
    }
}

/// A matrix that libtorch unpacks.
#[derive(Debug)]
struct OnDevice {
    rows: i64,
    columns: i64,
    numbers: Numbers,
}

#[derive(Debug)]
enum Numbers {
    FourBit(FourBitTensors),
    Int8 {
        /// [rows, columns], signed.
        codes: Tensor,
        /// [rows, 1].
        scales: Tensor,
        /// 127 on the device: a number of the host would be divided by as a product with its reciprocal.
        divisor: Tensor,
    },
}

#[derive(Debug)]
struct FourBitTensors {
    /// Bytes, \[⌈count / 2⌉\], filled up to whole blocks.
    codes: Tensor,
    /// The two numbers of each byte, [256, 2].
    pairs: Tensor,
    scales: ScaleTensors,
    block: i64,
    /// Whether a row begins with a block of its own.
    floored_rows: bool,
    rounded_to: FloatDtype,
}

#[derive(Debug)]
enum ScaleTensors {
    Float32(Tensor),
    Double { codes: Tensor, table: Tensor, nested: Tensor, nested_block: i64, offset: f64 },
}

impl OnDevice {
    /// `None` for a format that is unpacked on the host.
    fn new(matrix: &PackedMatrix, device: Device) -> Option<Self> {
        let (rows, columns) = (matrix.rows() as i64, matrix.columns() as i64);
        let numbers = match matrix.packing() {
            Packing::FourBit(packed) => Numbers::FourBit(FourBitTensors::new(packed, rows * columns, columns, device)),
            Packing::Int8(packed) => int8(packed, rows, columns, device),
            _ => return None,
        };
        Some(Self { rows, columns, numbers })
    }

    /// The matrix in float32.
    fn unpack(&self) -> Tensor {
        tch::no_grad(|| match &self.numbers {
            Numbers::FourBit(packed) => packed.unpack(self.rows, self.columns),
            Numbers::Int8 { codes, scales, divisor } => {
                let mut numbers = codes.to_kind(Kind::Float);
                let _ = numbers.g_mul_(scales);
                let _ = numbers.g_div_(divisor);
                numbers
            }
        })
    }
}

fn int8(packed: &Int8, rows: i64, columns: i64, device: Device) -> Numbers {
    Numbers::Int8 {
        codes: Tensor::from_data_size(packed.codes(), &[rows, columns], Kind::Int8).to_device(device),
        scales: float32s(packed.scales()).view([rows, 1]).to_device(device),
        divisor: Tensor::from_slice(&[127f32]).to_device(device),
    }
}

impl FourBitTensors {
    fn new(packed: &FourBit, count: i64, columns: i64, device: Device) -> Self {
        let block = packed.block() as i64;
        let codes = bytes(packed.codes());
        let missing = (count + block - 1) / block * (block / 2) - codes.size()[0];
        let table = packed.table();
        let pairs: Vec<f32> = (0..256).flat_map(|byte| [table[byte >> 4], table[byte & 15]]).collect();
        let scales = match packed.scales() {
            Scales::Float32(scales) => ScaleTensors::Float32(float32s(scales).to_device(device)),
            Scales::Double(double) => ScaleTensors::Double {
                codes: bytes(double.codes()).to_device(device),
                table: Tensor::from_slice(double.table()).to_device(device),
                nested: Tensor::from_slice(double.nested()).to_device(device),
                nested_block: double.nested_block() as i64,
                offset: f64::from(double.offset()),
            },
        };
        let is_floored = packed.scale_order() == ScaleOrder::FlooredRows;
        Self {
            codes: codes.constant_pad_nd([0, missing]).to_device(device),
            pairs: Tensor::from_slice(&pairs).view([256, 2]).to_device(device),
            scales,
            block,
            floored_rows: is_floored && columns % 16 == 0 && block < 2048 && columns % block != 0,
            rounded_to: packed.rounded_to(),
        }
    }

    fn unpack(&self, rows: i64, columns: i64) -> Tensor {
        let numbers = self.pairs.index_select(0, &self.codes.to_kind(Kind::Int));
        let scales = self.scales.unpack();
        let numbers = if self.floored_rows {
            let mut numbers = numbers.view([-1]).narrow(0, 0, rows * columns).view([rows, columns]);
            let _ = numbers.g_mul_(&self.floored_scales(&scales, rows, columns));
            numbers
        } else {
            let mut blocks = numbers.view([-1, self.block]);
            let _ = blocks.g_mul_(&scales.view([-1, 1]));
            blocks.view([-1]).narrow(0, 0, rows * columns).view([rows, columns])
        };
        match self.rounded_to {
            FloatDtype::F32 => numbers,
            FloatDtype::Bf16 => numbers.to_kind(Kind::BFloat16).to_kind(Kind::Float),
            FloatDtype::F16 => numbers.to_kind(Kind::Half).to_kind(Kind::Float),
        }
    }

    /// The scale of each number, [rows, columns], with [`ScaleOrder::FlooredRows`].
    fn floored_scales(&self, scales: &Tensor, rows: i64, columns: i64) -> Tensor {
        let options = (Kind::Int, scales.device());
        let in_row = Tensor::arange(columns, options).divide_scalar_mode(self.block, "floor");
        let firsts = Tensor::arange(rows, options) * (columns / self.block);
        let indices = firsts.view([-1, 1]) + in_row.view([1, -1]);
        scales.index_select(0, &indices.view([-1])).view([rows, columns])
    }
}

impl ScaleTensors {
    fn unpack(&self) -> Tensor {
        match self {
            Self::Float32(scales) => scales.shallow_clone(),
            Self::Double { codes, table, nested, nested_block, offset } => {
                let blocks = Tensor::arange(codes.size()[0], (Kind::Int64, codes.device()));
                let nested = nested.index_select(0, &blocks.divide_scalar_mode(*nested_block, "floor"));
                // The product is rounded before the sum.
                table.index_select(0, &codes.to_kind(Kind::Int)) * nested + *offset
            }
        }
    }
}

fn bytes(bytes: &[u8]) -> Tensor {
    Tensor::from_data_size(bytes, &[bytes.len() as i64], Kind::Uint8)
}

/// Little-endian bytes of float32.
fn float32s(bytes: &[u8]) -> Tensor {
    let numbers: Vec<f32> = bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    Tensor::from_slice(&numbers)
}

fn matrix(tensor: Tensor) -> Matrix {
    Matrix::from_primitive(TensorPrimitive::Float(TchTensor::new(tensor)))
}

#[cfg(test)]
mod tests {
    use collimate_quantized::FourBitKind;
    use rstest::rstest;

    use super::*;
    use crate::packed_tests;

    const CPU: LibTorchDevice = LibTorchDevice::Cpu;

    #[rstest]
    fn four_bits_are_unpacked_to_the_bits_of_the_host(
        #[values(FourBitKind::Nf4, FourBitKind::Fp4)] kind: FourBitKind,
        #[values(false, true)] double: bool,
        #[values(FloatDtype::F32, FloatDtype::Bf16, FloatDtype::F16)] stored: FloatDtype,
    ) {
        packed_tests::four_bits::<LibTorch>(kind, double, stored, &CPU);
    }

    #[test]
    fn eight_bits_are_unpacked_to_the_bits_of_the_host() {
        packed_tests::eight_bits::<LibTorch>(&CPU);
    }

    #[rstest]
    fn products_with_packed_weights(
        #[values(Format::NF4, Format::NF4_DOUBLE, Format::Int8)] format: Format,
        #[values(false, true)] backward: bool,
    ) {
        packed_tests::products::<LibTorch>(format, backward, &CPU);
    }

    #[rstest]
    fn weights_in_sixteen_bits_are_rounded_once(
        #[values(Format::NF4, Format::NF4_DOUBLE, Format::Int8)] format: Format,
    ) {
        packed_tests::sixteen_bits::<LibTorch>(format, DType::BF16, &CPU);
    }

    #[test]
    fn weights_in_files_are_read_for_each_product() {
        packed_tests::in_files::<LibTorch>(&CPU);
    }

    #[test]
    fn formats_that_libtorch_does_not_unpack_are_unpacked_on_the_host() {
        packed_tests::without_a_kernel::<LibTorch>(&CPU);
    }
}
