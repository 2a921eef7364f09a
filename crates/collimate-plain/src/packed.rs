//! Weights of linear layers in packed form: in four bits a number, for example, or in the order of products.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};
use bytes::Bytes;
use collimate_kernels::{PackedBfloat16, PackedWeight, unpack_weight};
use collimate_quantized::{FloatDtype, Format, PackedMatrix};
use half::{bf16, f16};

use crate::dtype::{ComputeDtype, in_dtype};

/// A packed weight [out, in] where a backend's products read it.
pub trait PackedTensor<B: Backend>: Clone + fmt::Debug + Send + Sync {
    /// Whether resident weights of this format stay packed; where no kernel unpacks a format, they are better unpacked once.
    fn stays_packed(_format: Format) -> bool {
        true
    }

    /// Moves a weight to a device.
    fn new(weight: HostPacked, device: &B::Device) -> Self;

    /// The weight in float32, [out, in].
    fn unpack(&self, device: &B::Device) -> Tensor<B, 2>;

    /// The weight in `dtype`, rounded from float32, [out, in].
    fn unpack_in(&self, dtype: DType, device: &B::Device) -> Tensor<B, 2> {
        in_dtype(self.unpack(device), dtype)
    }

    /// Begins to read a weight that is in a file, if it is in one.
    fn prefetch(&self) {}
}

/// The pages of a file that a weight is in.
pub trait FilePages: fmt::Debug + Send + Sync {
    /// Has the system read them.
    fn prefetch(&self);

    /// Drops them from this process's memory; later reads fault them back in.
    fn release(&self);
}

/// A weight of plain numbers, [rows, columns], as a file has them.
#[derive(Debug, Clone)]
pub struct PlainMatrix {
    rows: usize,
    columns: usize,
    dtype: FloatDtype,
    bytes: Bytes,
}

impl PlainMatrix {
    /// `None` if there are not as many bytes as the matrix has.
    pub fn new(rows: usize, columns: usize, dtype: FloatDtype, bytes: Bytes) -> Option<Self> {
        let size = rows.checked_mul(columns)?.checked_mul(dtype.size())?;
        (bytes.len() == size).then_some(Self { rows, columns, dtype, bytes })
    }

    fn unpack(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32]) {
        for (row, out) in rows.zip(out.chunks_exact_mut(columns.len().max(1))) {
            let start = (row * self.columns + columns.start) * self.dtype.size();
            let bytes = &self.bytes[start..start + out.len() * self.dtype.size()];
            match self.dtype {
                FloatDtype::F32 => {
                    let words = bytes.as_chunks().0.iter();
                    out.iter_mut().zip(words).for_each(|(x, word)| *x = f32::from_le_bytes(*word));
                }
                FloatDtype::Bf16 => {
                    let words = bytes.as_chunks().0.iter();
                    out.iter_mut().zip(words).for_each(|(x, word)| *x = bf16::from_le_bytes(*word).to_f32());
                }
                FloatDtype::F16 => {
                    let words = bytes.as_chunks().0.iter();
                    out.iter_mut().zip(words).for_each(|(x, word)| *x = f16::from_le_bytes(*word).to_f32());
                }
            }
        }
    }
}

/// The numbers of a [`HostPacked`].
#[derive(Debug, Clone)]
enum Numbers {
    Packed(PackedMatrix),
    Plain(PlainMatrix),
    Tiles(Arc<PackedBfloat16>),
}

/// A packed weight [out, in] in host memory, or a packed or plain one in a file that is mapped into it.
#[derive(Debug, Clone)]
pub struct HostPacked {
    numbers: Numbers,
    pages: Option<Arc<dyn FilePages>>,
}

impl HostPacked {
    /// A packed weight in memory.
    pub fn resident(matrix: PackedMatrix) -> Self {
        Self { numbers: Numbers::Packed(matrix), pages: None }
    }

    /// A packed weight in a file.
    pub fn mapped(matrix: PackedMatrix, pages: Arc<dyn FilePages>) -> Self {
        Self { numbers: Numbers::Packed(matrix), pages: Some(pages) }
    }

    /// A weight of plain numbers in a file.
    pub fn plain(matrix: PlainMatrix, pages: Arc<dyn FilePages>) -> Self {
        Self { numbers: Numbers::Plain(matrix), pages: Some(pages) }
    }

    /// A weight of bfloat16 numbers in memory, in the order of products on the processor.
    pub fn tiles(matrix: PackedBfloat16) -> Self {
        Self { numbers: Numbers::Tiles(Arc::new(matrix)), pages: None }
    }

    /// The weight in a format of fewer bits; `None` for any other.
    pub fn packed(&self) -> Option<&PackedMatrix> {
        match &self.numbers {
            Numbers::Packed(matrix) => Some(matrix),
            Numbers::Plain(_) | Numbers::Tiles(_) => None,
        }
    }

    /// The weight in the order of products; `None` for any other.
    pub fn in_tiles(&self) -> Option<&PackedBfloat16> {
        match &self.numbers {
            Numbers::Tiles(matrix) => Some(matrix),
            Numbers::Packed(_) | Numbers::Plain(_) => None,
        }
    }

    /// Outputs and inputs.
    pub fn shape(&self) -> [usize; 2] {
        match &self.numbers {
            Numbers::Packed(matrix) => [matrix.rows(), matrix.columns()],
            Numbers::Plain(matrix) => [matrix.rows, matrix.columns],
            Numbers::Tiles(matrix) => [matrix.rows(), matrix.columns()],
        }
    }

    /// The numbers on a device, each rounded to `dtype` once: [out, in], or [in, out] with `transposed`. They are read panel by
    /// panel, so that on the way only the result takes memory.
    pub fn upload<B: Backend>(&self, dtype: ComputeDtype, transposed: bool, device: &B::Device) -> Tensor<B, 2> {
        let [rows, columns] = self.shape();
        let shape = if transposed { [columns, rows] } else { [rows, columns] };
        let data = match dtype {
            ComputeDtype::Float32 => TensorData::new(unpack_weight::<f32>(self, transposed), shape),
            ComputeDtype::Bfloat16 => TensorData::new(unpack_weight::<bf16>(self, transposed), shape),
        };
        self.release();
        Tensor::from_data(data, (device, dtype.burn_dtype()))
    }

    /// Whether it stays in a file.
    pub fn is_in_file(&self) -> bool {
        self.pages.is_some()
    }

    /// Drops the pages of a weight that is in a file.
    pub fn release(&self) {
        if let Some(pages) = &self.pages {
            pages.release();
        }
    }
}

impl PackedWeight for HostPacked {
    fn rows(&self) -> usize {
        self.shape()[0]
    }

    fn columns(&self) -> usize {
        self.shape()[1]
    }

    fn unpack(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32]) {
        match &self.numbers {
            Numbers::Packed(matrix) => matrix.unpack_tile(rows, columns, out),
            Numbers::Plain(matrix) => matrix.unpack(rows, columns, out),
            Numbers::Tiles(matrix) => matrix.unpack(rows, columns, out),
        }
    }
}

/// Stays in host memory; each unpacking uploads it.
impl<B: Backend> PackedTensor<B> for HostPacked {
    fn new(weight: HostPacked, _: &B::Device) -> Self {
        weight
    }

    fn unpack(&self, device: &B::Device) -> Tensor<B, 2> {
        self.upload(ComputeDtype::Float32, false, device)
    }

    fn prefetch(&self) {
        if let Some(pages) = &self.pages {
            pages.prefetch();
        }
    }
}
