//! flex's tensors as the slices that kernels read and write.

use burn::tensor::{DType, Tensor, TensorData, TensorPrimitive};
use burn_flex::{Flex, FlexTensor};
use half::bf16;
use rayon::prelude::*;

use crate::operands::Gradient;

pub(super) type Matrix = Tensor<Flex, 2>;

/// Evaluates an expression in which `$T` is the type of the numbers of a dtype.
macro_rules! with_numbers {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            burn::tensor::DType::BF16 => {
                type $T = half::bf16;
                $body
            }
            // A tensor of any other dtype refuses to be read as float32.
            _ => {
                type $T = f32;
                $body
            }
        }
    };
}
pub(super) use with_numbers;

/// The tensor in contiguous rows, for reading; copied only if it is a view.
pub(super) fn rows_of(tensor: &Matrix) -> FlexTensor {
    owned(tensor.clone())
}

/// The tensor in contiguous rows, for writing: its own memory if nothing else holds it.
pub(super) fn owned(tensor: Matrix) -> FlexTensor {
    let primitive = tensor.into_primitive().tensor();
    let contiguous = primitive.to_contiguous();
    drop(primitive);
    contiguous
}

pub(super) fn matrix(values: Vec<f32>, shape: [usize; 2]) -> Matrix {
    wrap(FlexTensor::from_data(TensorData::new(values, shape)))
}

pub(super) fn zeros(dtype: DType, shape: [usize; 2]) -> FlexTensor {
    let len = shape[0] * shape[1];
    match dtype {
        DType::BF16 => FlexTensor::from_data(TensorData::new(vec![bf16::ZERO; len], shape)),
        _ => FlexTensor::from_data(TensorData::new(vec![0f32; len], shape)),
    }
}

/// Zeros that are written once, on all threads. A page of new memory that is read first is mapped twice, and the second time every
/// processor must be told: 5 % of a step with a trained output layer.
fn written_zeros(len: usize) -> Vec<f32> {
    const CHUNK: usize = 1 << 16;
    let mut zeros = vec![0.0; len];
    zeros.par_chunks_mut(CHUNK).for_each(|part| part.fill(0.0));
    zeros
}

pub(super) fn wrap(tensor: FlexTensor) -> Matrix {
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}

/// A new tensor that `f` fills.
pub(super) fn filled(dtype: DType, shape: [usize; 2], f: impl FnOnce(&mut FlexTensor)) -> Matrix {
    let mut out = zeros(dtype, shape);
    f(&mut out);
    wrap(out)
}

/// Updates a tensor in place.
pub(super) fn change(tensor: Matrix, f: impl FnOnce(&mut FlexTensor)) -> Matrix {
    let mut tensor = owned(tensor);
    f(&mut tensor);
    wrap(tensor)
}

/// Updates a gradient in place, starting from zero.
pub(super) fn add_to(gradient: &mut Gradient<Flex>, shape: [usize; 2], f: impl FnOnce(&mut [f32])) {
    let held = gradient.take().unwrap_or_else(|| matrix(written_zeros(shape[0] * shape[1]), shape));
    *gradient = Some(change(held, |held| f(held.storage_mut())));
}
