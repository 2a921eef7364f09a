//! A backend with only the plain forms: flex's tensors under automatic differentiation.
//!
//! It computes on any machine what a backend without kernels computes. Tests also run the model on it in bfloat16: like
//! CubeCL's backends, and unlike libtorch, flex refuses operands of different dtypes.

use burn::backend::Autodiff;
use burn_flex::Flex;

use crate::ops::FusedOps;
use crate::packed::HostPacked;
use crate::plain::Tiles;

impl FusedOps for Autodiff<Flex> {
    type Attention = Tiles<Self>;
    type Packed = HostPacked;
}
