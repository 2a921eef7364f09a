//! The dtypes models compute in, and explicit conversions.
//!
//! burn never promotes dtypes: most backends refuse operands of different dtypes and only libtorch converts silently, so
//! every conversion is explicit.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};

/// The dtype of a model's matrices and activations.
///
/// Whatever would lose precision stays in float32 regardless: norms and their statistics, softmax, log-sum-exp, adapter
/// factors, accumulated gradients, and the optimizer's moments and master weights.
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

    /// Its name in recipes and in `DeviceInfo::dtypes`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
        }
    }

    /// The dtype with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Bytes per element.
    pub fn num_bytes(self) -> u64 {
        match self {
            Self::Float32 => 4,
            Self::Bfloat16 => 2,
        }
    }

    /// burn's name for it.
    pub fn burn_dtype(self) -> DType {
        match self {
            Self::Float32 => DType::F32,
            Self::Bfloat16 => DType::BF16,
        }
    }
}

/// Converts a tensor to `dtype`; free if it already has it.
pub fn in_dtype<B: Backend, const D: usize>(x: Tensor<B, D>, dtype: DType) -> Tensor<B, D> {
    if x.dtype() == dtype { x } else { x.cast(dtype) }
}

/// Converts a tensor to float32; free if it already is.
pub fn in_float32<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    in_dtype(x, DType::F32)
}
