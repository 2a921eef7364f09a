//! burn's tensors as CubeCL's, with fusion and without.
//!
//! Fusion holds operations back to join them; reading a tensor runs what it depends on.

use burn::tensor::{Tensor, TensorPrimitive};
use burn_cubecl::element::BoolElement;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeRuntime};

/// CubeCL's backend of a runtime as burn names it, with its elements of float32 and int32.
#[cfg(not(feature = "fusion"))]
pub(super) type Cube<R, BT> = CubeBackend<R, f32, i32, BT>;
/// The same with fusion.
#[cfg(feature = "fusion")]
pub(super) type Cube<R, BT> = burn_fusion::Fusion<CubeBackend<R, f32, i32, BT>>;

/// The tensor for a kernel. What nobody else holds may be changed in place, so one that goes on should be cloned.
#[cfg(not(feature = "fusion"))]
pub(super) fn read<R: CubeRuntime, BT: BoolElement, const D: usize>(tensor: Tensor<Cube<R, BT>, D>) -> CubeTensor<R> {
    tensor.into_primitive().tensor()
}

/// The tensor of a kernel's result.
#[cfg(not(feature = "fusion"))]
pub(super) fn write<R: CubeRuntime, BT: BoolElement, const D: usize>(tensor: CubeTensor<R>) -> Tensor<Cube<R, BT>, D> {
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}

/// The tensor for a kernel. What nobody else holds may be changed in place, so one that goes on should be cloned.
#[cfg(feature = "fusion")]
pub(super) fn read<R: CubeRuntime, BT: BoolElement, const D: usize>(tensor: Tensor<Cube<R, BT>, D>) -> CubeTensor<R> {
    let tensor = tensor.into_primitive().tensor();
    tensor.client.clone().resolve_tensor_float::<CubeBackend<R, f32, i32, BT>>(tensor)
}

/// The tensor of a kernel's result.
#[cfg(feature = "fusion")]
pub(super) fn write<R: CubeRuntime, BT: BoolElement, const D: usize>(tensor: CubeTensor<R>) -> Tensor<Cube<R, BT>, D> {
    use burn_fusion::stream::OperationStreams;
    use burn_fusion::{NoOp, get_client};
    use burn_ir::{BackendIr, InitOperationIr, OperationIr};

    type Inner<R, BT> = CubeBackend<R, f32, i32, BT>;
    let client = get_client::<Inner<R, BT>>(&tensor.device);
    let (shape, dtype) = (tensor.meta.shape().clone(), tensor.dtype);
    let handle = Inner::<R, BT>::float_tensor_handle(tensor);
    let init = InitOperationIr::create(shape, dtype, || client.register_tensor_handle(handle));
    let mut outputs =
        client.register(OperationStreams::default(), OperationIr::Init(init), NoOp::<Inner<R, BT>>::new());
    Tensor::from_primitive(TensorPrimitive::Float(outputs.remove(0)))
}
