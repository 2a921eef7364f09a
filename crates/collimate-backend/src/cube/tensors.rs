//! Conversions between burn's tensors and CubeCL's, with fusion and without.
//!
//! Fusion delays operations in order to join them; reading a tensor runs everything it depends on.

use burn::tensor::{Tensor, TensorPrimitive};
use burn_cubecl::element::BoolElement;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeRuntime};

/// burn's CubeCL backend for a runtime, with float32 and int32 elements.
#[cfg(not(feature = "fusion"))]
pub(super) type Cube<R, BT> = CubeBackend<R, f32, i32, BT>;
/// burn's CubeCL backend for a runtime, with float32 and int32 elements and fusion.
#[cfg(feature = "fusion")]
pub(super) type Cube<R, BT> = burn_fusion::Fusion<CubeBackend<R, f32, i32, BT>>;

/// The tensor as a kernel argument. The kernel may change it in place unless something else holds it, so clone one that is
/// needed later.
#[cfg(not(feature = "fusion"))]
pub(super) fn read<R: CubeRuntime, BT: BoolElement, const D: usize>(tensor: Tensor<Cube<R, BT>, D>) -> CubeTensor<R> {
    tensor.into_primitive().tensor()
}

/// A kernel's result as burn's tensor.
#[cfg(not(feature = "fusion"))]
pub(super) fn write<R: CubeRuntime, BT: BoolElement, const D: usize>(tensor: CubeTensor<R>) -> Tensor<Cube<R, BT>, D> {
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}

/// The tensor as a kernel argument. The kernel may change it in place unless something else holds it, so clone one that is
/// needed later.
#[cfg(feature = "fusion")]
pub(super) fn read<R: CubeRuntime, BT: BoolElement, const D: usize>(tensor: Tensor<Cube<R, BT>, D>) -> CubeTensor<R> {
    let tensor = tensor.into_primitive().tensor();
    tensor.client.clone().resolve_tensor_float::<CubeBackend<R, f32, i32, BT>>(tensor)
}

/// A kernel's result as burn's tensor.
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
