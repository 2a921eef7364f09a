//! Packed weights on a device: their bytes stay packed there, and each product unpacks them into a matrix of its own.

use std::sync::Arc;

use burn::tensor::{DType, Tensor};
use burn_cubecl::CubeRuntime;
use burn_cubecl::element::BoolElement;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use collimate_quantized::{Format, FourBit, Int8, PackedMatrix, Packing, ScaleOrder, Scales};

use super::buffers::upload;
use super::tensors::{Cube, write};
use super::unpack::{self, FourBitForm};
use crate::dtype::in_dtype;
use crate::packed::{HostPacked, PackedTensor};
use crate::unpacking;

/// A packed weight where a kernel unpacks it.
#[derive(Debug, Clone)]
pub struct CubePacked<R: CubeRuntime>(Place<R>);

#[derive(Debug, Clone)]
enum Place<R: CubeRuntime> {
    /// On the device.
    Device(Arc<OnDevice<R>>),
    /// In a file, or in a format that no kernel reads: each product uploads it, packed if a kernel reads it.
    Host(Box<HostPacked>),
}

impl<R: CubeRuntime, BT: BoolElement> PackedTensor<Cube<R, BT>> for CubePacked<R> {
    fn stays_packed(format: Format) -> bool {
        unpacking::on_device(format)
    }

    fn new(weight: HostPacked, device: &R::Device) -> Self {
        let resident = weight.packed().filter(|_| !weight.is_in_file());
        match resident.and_then(|matrix| OnDevice::new(matrix, device)) {
            Some(on_device) => Self(Place::Device(Arc::new(on_device))),
            None => Self(Place::Host(Box::new(weight))),
        }
    }

    fn unpack(&self, device: &R::Device) -> Tensor<Cube<R, BT>, 2> {
        PackedTensor::<Cube<R, BT>>::unpack_in(self, DType::F32, device)
    }

    fn unpack_in(&self, dtype: DType, device: &R::Device) -> Tensor<Cube<R, BT>, 2> {
        let weight = match &self.0 {
            Place::Device(on_device) => return write(on_device.unpack(dtype)),
            Place::Host(weight) => weight,
        };
        match weight.packed().and_then(|matrix| OnDevice::<R>::new(matrix, device)) {
            Some(on_device) => {
                weight.release();
                write(on_device.unpack(dtype))
            }
            None => in_dtype(PackedTensor::<Cube<R, BT>>::unpack(&**weight, device), dtype),
        }
    }

    fn prefetch(&self) {
        if let Place::Host(weight) = &self.0 {
            PackedTensor::<Cube<R, BT>>::prefetch(&**weight);
        }
    }
}

/// A matrix that a kernel unpacks.
#[derive(Debug)]
struct OnDevice<R: CubeRuntime> {
    rows: usize,
    columns: usize,
    form: Form,
    /// Bytes of codes, four a word.
    codes: CubeTensor<R>,
    /// Tables and scales.
    floats: CubeTensor<R>,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    FourBit { form: FourBitForm, nested_block: u32 },
    Int8,
}

/// What is uploaded.
struct Parts {
    form: Form,
    codes: Vec<u32>,
    floats: Vec<f32>,
}

impl<R: CubeRuntime> OnDevice<R> {
    /// `None` for a format that no kernel reads.
    fn new(matrix: &PackedMatrix, device: &R::Device) -> Option<Self> {
        let (rows, columns) = (matrix.rows(), matrix.columns());
        // Kernels count numbers in 32 bits, with room for a stride.
        let parts = match matrix.packing() {
            _ if rows * columns > i32::MAX as usize => return None,
            Packing::FourBit(packed) => Parts::four_bit(packed),
            Packing::Int8(packed) => Parts::int8(packed),
            _ => return None,
        };
        let client = R::client(device);
        let (codes, floats) = (upload(&client, device, &parts.codes), upload(&client, device, &parts.floats));
        Some(Self { rows, columns, form: parts.form, codes, floats })
    }

    /// The matrix in `dtype`, rounded once from float32.
    fn unpack(&self, dtype: DType) -> CubeTensor<R> {
        let (client, device) = (self.codes.client.clone(), self.codes.device.clone());
        let out = empty_device_contiguous_dtype(client, device, [self.rows, self.columns].into(), dtype);
        let (codes, floats) = (self.codes.clone(), self.floats.clone());
        match self.form {
            Form::FourBit { form, nested_block } => unpack::four_bit(form, codes, floats, nested_block, out),
            Form::Int8 => unpack::int8(codes, floats, out),
        }
    }
}

impl Parts {
    fn four_bit(packed: &FourBit) -> Self {
        let (mut codes, mut floats) = (words(packed.codes()), packed.table().to_vec());
        let nested_block = match packed.scales() {
            Scales::Float32(bytes) => {
                floats.extend(words(bytes).into_iter().map(f32::from_bits));
                1
            }
            Scales::Double(double) => {
                codes.extend(words(double.codes()));
                floats.extend(double.table());
                floats.push(double.offset());
                floats.extend(double.nested());
                u32::try_from(double.nested_block()).unwrap_or(u32::MAX)
            }
        };
        let form = FourBitForm {
            block: packed.block() as u32,
            double: packed.scales().is_double(),
            floored_rows: packed.scale_order() == ScaleOrder::FlooredRows,
            rounded_to: packed.rounded_to(),
        };
        Self { form: Form::FourBit { form, nested_block }, codes, floats }
    }

    fn int8(packed: &Int8) -> Self {
        let scales = words(packed.scales()).into_iter().map(f32::from_bits);
        Self { form: Form::Int8, codes: words(packed.codes()), floats: scales.collect() }
    }
}

/// Little-endian words; the last one is filled up with zeros.
fn words(bytes: &[u8]) -> Vec<u32> {
    let (whole, rest) = bytes.as_chunks::<4>();
    let mut words: Vec<u32> = whole.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect();
    if !rest.is_empty() {
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        words.push(u32::from_le_bytes(last));
    }
    words
}
