//! The types in which weights are stored.

use collimate_hf::ModelConfig;
use half::{bf16, f16};
use safetensors::Dtype;

/// The dtype in which weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StorageDtype {
    /// float32.
    F32,
    /// bfloat16, rounded to nearest, ties to even.
    BF16,
    /// float16, rounded to nearest, ties to even.
    F16,
}

impl StorageDtype {
    /// Bytes of one value.
    pub fn num_bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    /// Its name in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::BF16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    /// The dtype with this name in `config.json` and recipes.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::F32, Self::BF16, Self::F16].into_iter().find(|dtype| dtype.name() == name)
    }

    /// The counterpart of a safetensors dtype, if any.
    pub fn from_stored(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::BF16 => Some(Self::BF16),
            Dtype::F16 => Some(Self::F16),
            _ => None,
        }
    }

    /// The value read back after storing `value`.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::BF16 => bf16::from_f32(value).to_f32(),
            Self::F16 => f16::from_f32(value).to_f32(),
        }
    }

    /// The dtype that a tensor of a model has in a file whose others are in this one.
    pub fn of(self, config: &ModelConfig, tensor: &str) -> Self {
        if config.keeps_float32(tensor) { Self::F32 } else { self }
    }

    /// Its name in the header of a file.
    pub(crate) fn header_name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::BF16 => "BF16",
            Self::F16 => "F16",
        }
    }

    /// Numbers as a file has them.
    pub(crate) fn encode(self, data: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::BF16 => data.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            Self::F16 => data.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        }
    }
}
