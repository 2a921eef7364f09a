//! Products of any mix of float32 and bfloat16 factors.

use burn::tensor::{DType, TensorData};
use burn_flex::{Flex, FlexTensor};
use collimate_kernels as kernels;
use collimate_kernels::PackedWeight;
use half::bf16;

use super::tensors::{Matrix, change, filled, rows_of, with_numbers};
use crate::dtype::{ComputeDtype, in_dtype, in_float32};
use crate::operands::Factor;
use crate::packed::HostPacked;

/// Whether weights in `dtype` are held in tiles.
pub(super) fn has_tiles(dtype: ComputeDtype) -> bool {
    dtype == ComputeDtype::Bfloat16 && kernels::bfloat16_products().is_some()
}

/// `FusedOps::multiply`.
pub(super) fn multiply(onto: Option<Matrix>, alpha: f32, a: Factor<'_, Flex>, b: Factor<'_, Flex>) -> Matrix {
    let dtype = match &onto {
        Some(onto) => onto.dtype(),
        None => narrower(&a, &b),
    };
    multiply_in(dtype, onto, alpha, a, b)
}

/// `onto + alpha · a · b` in `dtype`, which is that of `onto` if it is given.
pub(super) fn multiply_in(
    dtype: DType,
    onto: Option<Matrix>,
    alpha: f32,
    a: Factor<'_, Flex>,
    b: Factor<'_, Flex>,
) -> Matrix {
    let shape = [a.dims()[0], b.dims()[1]];
    if narrower(&a, &b) == DType::BF16 {
        let (a_data, b_data) = (rounded(a.matrix), rounded(b.matrix));
        let (left, right) = (view::<bf16>(&a, a_data.storage()), view(&b, b_data.storage()));
        return onto_or_filled(dtype, onto, shape, |out, accumulate| {
            with_numbers!(dtype, T => kernels::multiply_bf16::<T>(out.storage_mut(), accumulate, alpha, left, right));
        });
    }
    let (a_data, b_data) = (rows_of(a.matrix), rows_of(b.matrix));
    let (left, right) = (view(&a, a_data.storage()), view(&b, b_data.storage()));
    added_in_float32(dtype, onto, shape, |out, accumulate| {
        kernels::multiply(out.storage_mut(), accumulate, alpha, left, right);
    })
}

/// A weight [out, in] in tiles, rounded to bfloat16.
pub(super) fn prepared(weight: Factor<'_, Flex>) -> HostPacked {
    let data = rows_of(weight.matrix);
    HostPacked::tiles(match data.dtype() {
        DType::BF16 => kernels::PackedBfloat16::new(view::<bf16>(&weight, data.storage()).into()),
        _ => kernels::PackedBfloat16::rounded(view(&weight, data.storage())),
    })
}

/// `FusedOps::multiply_packed`.
pub(super) fn multiply_packed(
    onto: Option<Matrix>,
    alpha: f32,
    x: &Matrix,
    weight: &HostPacked,
    backward: bool,
) -> Matrix {
    let [rows, inner] = x.dims();
    let shape = [rows, if backward { weight.columns() } else { weight.rows() }];
    if let Some(tiles) = weight.in_tiles() {
        let (dtype, x) = (onto.as_ref().map_or(DType::BF16, |onto| onto.dtype()), rounded(x));
        return onto_or_filled(dtype, onto, shape, |out, accumulate| {
            let x = kernels::Bfloat16Matrix::new(x.storage(), rows, inner);
            with_numbers!(dtype, T => {
                kernels::multiply_prepared::<T>(out.storage_mut(), accumulate, alpha, x, tiles, !backward);
            });
        });
    }
    let x = rows_of(x);
    let dtype = onto.as_ref().map_or(x.dtype(), |onto| onto.dtype());
    let product = match x.dtype() {
        DType::BF16 => onto_or_filled(dtype, onto, shape, |out, accumulate| {
            let x = kernels::Matrix::new(x.storage(), rows, inner);
            with_numbers!(dtype, T => {
                kernels::multiply_packed_bf16::<T>(out.storage_mut(), accumulate, alpha, x, weight, !backward);
            });
        }),
        _ => added_in_float32(dtype, onto, shape, |out, accumulate| {
            let x = kernels::Matrix::new(x.storage(), rows, inner);
            kernels::multiply_packed(out.storage_mut(), accumulate, alpha, x, weight, !backward);
        }),
    };
    weight.release();
    product
}

/// The dtype of a product of these factors.
fn narrower(a: &Factor<'_, Flex>, b: &Factor<'_, Flex>) -> DType {
    if a.matrix.dtype() == DType::F32 { b.matrix.dtype() } else { a.matrix.dtype() }
}

/// The matrix in bfloat16, in contiguous rows.
pub(super) fn rounded(matrix: &Matrix) -> FlexTensor {
    let (shape, rows) = (matrix.dims(), rows_of(matrix));
    match rows.dtype() {
        DType::BF16 => rows,
        _ => FlexTensor::from_data(TensorData::new(kernels::to_bfloat16(rows.storage()), shape)),
    }
}

/// `factor` as the kernels read it, from `data`, its matrix in contiguous rows.
fn view<'a, T>(factor: &Factor<'_, Flex>, data: &'a [T]) -> kernels::Matrix<'a, T> {
    let [rows, columns] = factor.dims();
    kernels::Matrix { data, rows, columns, transposed: factor.transposed }
}

/// Adds a product to `onto`, or writes it to a new tensor.
fn onto_or_filled(
    dtype: DType,
    onto: Option<Matrix>,
    shape: [usize; 2],
    multiply: impl FnOnce(&mut FlexTensor, bool),
) -> Matrix {
    match onto {
        Some(onto) => change(onto, |out| multiply(out, true)),
        None => filled(dtype, shape, |out| multiply(out, false)),
    }
}

/// Adds a product in float32 to `onto`, of any dtype, or writes it to a new tensor.
fn added_in_float32(
    dtype: DType,
    onto: Option<Matrix>,
    shape: [usize; 2],
    multiply: impl FnOnce(&mut FlexTensor, bool),
) -> Matrix {
    in_dtype(onto_or_filled(DType::F32, onto.map(in_float32), shape, multiply), dtype)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, Tensor};
    use burn_flex::FlexDevice;
    use rstest::rstest;

    use super::*;
    use crate::packed::PackedTensor;

    fn random(dims: [usize; 2], dtype: DType) -> Matrix {
        Tensor::<Flex, 2>::random(dims, Distribution::Uniform(-1.0, 1.0), &FlexDevice).cast(dtype)
    }

    #[rstest]
    fn products_with_a_prepared_weight_have_the_bits_of_the_plain_one(
        #[values(DType::F32, DType::BF16)] x_dtype: DType,
        #[values(None, Some(DType::F32), Some(DType::BF16))] onto: Option<DType>,
        #[values(false, true)] backward: bool,
        #[values(1, 37)] rows: usize,
    ) {
        // As the model holds it, [in, out].
        let held = random([70, 45], DType::BF16);
        let weight = prepared(Factor::transpose_of(&held));
        let numbers = held.clone().cast(DType::F32).transpose().to_data();
        assert_eq!(PackedTensor::<Flex>::unpack(&weight, &FlexDevice).to_data(), numbers);
        let [inner, width] = if backward { [45, 70] } else { [70, 45] };
        let x = random([rows, inner], x_dtype);
        let onto = onto.map(|dtype| random([rows, width], dtype));
        let plain = if backward { Factor::transpose_of(&held) } else { Factor::new(&held) };
        let expected = multiply(onto.clone(), 0.5, Factor::new(&x), plain);
        let found = multiply_packed(onto, 0.5, &x, &weight, backward);
        assert_eq!(found.dtype(), expected.dtype());
        assert_eq!(found.to_data(), expected.to_data());
    }
}
