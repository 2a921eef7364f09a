//! Transfers tensors to and from host memory.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use collimate_hf::HostTensor;
use rayon::prelude::*;

use crate::parameter_index::ParameterInfo;

/// A tensor's elements in row-major order.
pub(crate) fn floats<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Row indices or token ids as a tensor.
pub(crate) fn int_tensor<B: Backend>(values: &[u32], device: &B::Device) -> Tensor<B, 1, Int> {
    let values: Vec<i32> = values.iter().map(|&value| value as i32).collect();
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

/// Uploads a parameter from its file's shape to its stored shape.
pub(crate) fn upload<B: Backend>(info: &ParameterInfo, value: HostTensor, device: &B::Device) -> Tensor<B, 2> {
    let [rows, columns] = info.stored_shape();
    if !info.transposed {
        return Tensor::from_data(TensorData::new(value.data, [rows, columns]), device);
    }
    Tensor::from_data(TensorData::new(transpose(&value.data, rows, columns), [rows, columns]), device)
}

/// Transposes a row-major [columns, rows] matrix, in blocks of a cache line, on all threads.
fn transpose(data: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const BLOCK: usize = 16;
    let mut transposed = vec![0.0; data.len()];
    transposed.par_chunks_mut((BLOCK * columns).max(1)).enumerate().for_each(|(block, out)| {
        let first = block * BLOCK;
        let count = out.len() / columns;
        for (j, file_row) in data.chunks_exact(rows).enumerate() {
            for (i, &value) in file_row[first..first + count].iter().enumerate() {
                out[i * columns + j] = value;
            }
        }
    });
    transposed
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    fn a_transpose_has_rows_for_columns(#[values(1, 15, 16, 40)] rows: usize, #[values(1, 3, 33)] columns: usize) {
        let data: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
        let transposed = transpose(&data, rows, columns);
        for i in 0..rows {
            for j in 0..columns {
                assert_eq!(transposed[i * columns + j], data[j * rows + i]);
            }
        }
    }
}
