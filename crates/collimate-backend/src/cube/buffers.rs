//! Tensors as kernel arguments: contiguous, without strides.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::client::ComputeClient;
use burn_cubecl::cubecl::prelude::ArrayArg;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use bytemuck::NoUninit;

/// A tensor as a contiguous array.
pub(super) fn array<R: CubeRuntime>(tensor: CubeTensor<R>) -> ArrayArg<R> {
    into_contiguous(tensor).into_array_arg()
}

/// Allocates uninitialized memory for a result, on the device of `like`.
pub(super) fn empty<R: CubeRuntime>(like: &CubeTensor<R>, shape: impl Into<Shape>, dtype: DType) -> CubeTensor<R> {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape.into(), dtype)
}

/// [`empty`] in float32.
pub(super) fn scalars<R: CubeRuntime>(like: &CubeTensor<R>, shape: impl Into<Shape>) -> CubeTensor<R> {
    empty(like, shape, DType::F32)
}

/// A contiguous tensor that may be changed in place; a copy if something else holds it.
pub(super) fn owned<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    let tensor = into_contiguous(tensor);
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

/// Uploads numbers to the device of `like`.
pub(super) fn numbers<R: CubeRuntime, T: NoUninit>(like: &CubeTensor<R>, values: &[T]) -> ArrayArg<R> {
    upload(&like.client, &like.device, values).into_array_arg()
}

/// Uploads numbers of four bytes; only the kernel knows whether they are u32 or f32.
pub(super) fn upload<R: CubeRuntime, T: NoUninit>(
    client: &ComputeClient<R>,
    device: &R::Device,
    values: &[T],
) -> CubeTensor<R> {
    let handle = client.create_from_slice(bytemuck::cast_slice(values));
    CubeTensor::new_contiguous(client.clone(), device.clone(), [values.len()].into(), handle, DType::U32)
}
