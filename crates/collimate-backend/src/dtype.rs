//! The types that a model computes in, and tensors from one to the other.
//!
//! burn's operations want operands of one type, and only libtorch forgives another, so every change of type is written out.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};

/// The type of a model's matrices and activations.
///
/// What loses by it stays in float32 whatever is chosen: norms with their statistics, softmax, log-sum-exp, the factors of
/// adapters, gradients that add up, and the optimizer's moments and master weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ComputeDtype {
    /// 24 significant bits; every backend has it.
    #[default]
    Float32,
    /// The range of float32 with 8 significant bits, in half the memory.
    Bfloat16,
}

impl ComputeDtype {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Float32, Self::Bfloat16];

    /// As recipes and [`DeviceInfo::dtypes`](crate::DeviceInfo::dtypes) spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
        }
    }

    /// The type of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Bytes of one number.
    pub fn num_bytes(self) -> u64 {
        match self {
            Self::Float32 => 4,
            Self::Bfloat16 => 2,
        }
    }

    /// burn's name of it.
    pub fn of_tensors(self) -> DType {
        match self {
            Self::Float32 => DType::F32,
            Self::Bfloat16 => DType::BF16,
        }
    }
}

/// The tensor in this type; itself where it has it already.
pub fn in_dtype<B: Backend, const D: usize>(x: Tensor<B, D>, dtype: DType) -> Tensor<B, D> {
    if x.dtype() == dtype { x } else { x.cast(dtype) }
}

/// The tensor in float32; itself where it is.
pub fn in_float32<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    in_dtype(x, DType::F32)
}
