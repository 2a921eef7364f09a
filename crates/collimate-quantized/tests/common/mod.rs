//! Golden values, and numbers drawn as `tests/python/golden_quantized.py` draws them.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use collimate_quantized::{
    Dtype, FloatDtype, PackedMatrix, QuantizationConfig, QuantizedError, TensorPiece, read, read_experts,
};
use half::{bf16, f16};
use serde::Deserialize;

/// A case of `quantized.json`.
#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) shape: [usize; 2],
    pub(crate) config: Option<serde_json::Value>,
    pub(crate) packs: Option<Packs>,
    unpacked: String,
    pub(crate) tensors: BTreeMap<String, Stored>,
}

/// What bitsandbytes packed.
#[derive(Deserialize)]
pub(crate) struct Packs {
    kind: String,
    dtype: String,
    pub(crate) quant_type: String,
    pub(crate) block: usize,
    pub(crate) double: bool,
}

/// A tensor in base64.
#[derive(Deserialize)]
pub(crate) struct Stored {
    pub(crate) dtype: String,
    shape: Vec<usize>,
    data: String,
}

impl Stored {
    pub(crate) fn piece(&self) -> TensorPiece {
        let bytes = base64(&self.data).into();
        TensorPiece { dtype: Dtype::from_safetensors(&self.dtype), shape: self.shape.clone(), bytes }
    }
}

/// The tensors of a weight by what follows its module's name.
pub(crate) type Tensors = BTreeMap<String, TensorPiece>;

/// The module whose weight a case is.
const MODULE: &str = "h.0.q";

impl Case {
    pub(crate) fn pieces(&self) -> Tensors {
        self.tensors.iter().map(|(suffix, tensor)| (suffix.clone(), tensor.piece())).collect()
    }

    /// Reads the weight, or its experts, from some tensors.
    pub(crate) fn read(
        &self,
        tensors: &Tensors,
        shape: Option<[usize; 2]>,
    ) -> Result<Vec<PackedMatrix>, QuantizedError> {
        let lookup = |name: &str| name.strip_prefix(MODULE).and_then(|suffix| tensors.get(suffix)).cloned();
        let config = self.config.as_ref().map(QuantizationConfig::from_json).transpose()?;
        match read_experts(MODULE, &lookup)? {
            Some(experts) => Ok(experts),
            None => Ok(read(&format!("{MODULE}.weight"), shape, config.as_ref(), &lookup)?.into_iter().collect()),
        }
    }

    pub(crate) fn unpacked(&self) -> Vec<f32> {
        floats(&self.unpacked)
    }
}

impl Packs {
    /// The numbers that were packed, as little-endian bytes of their type.
    pub(crate) fn drawn(&self, [rows, columns]: [usize; 2]) -> (FloatDtype, Vec<u8>) {
        let numbers = (0..rows * columns).map(|i| self.number(i, i / columns, i % columns));
        match &self.dtype[..] {
            "bfloat16" => (FloatDtype::Bf16, numbers.flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect()),
            "float16" => (FloatDtype::F16, numbers.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect()),
            _ => (FloatDtype::F32, numbers.flat_map(f32::to_le_bytes).collect()),
        }
    }

    fn number(&self, position: usize, row: usize, column: usize) -> f32 {
        let h = (position as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let h = (h ^ (h >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let h = h ^ (h >> 32);
        let sum: u64 = (0..4).map(|piece| h >> (12 * piece) & 0xFFF).sum();
        let number = (sum as f64 - 8190.0) / 8192.0;
        let number = match &self.kind[..] {
            "outliers" if row.is_multiple_of(7) && column.is_multiple_of(5) => number * 32.0,
            "zeros" if (2..5).contains(&row) => 0.0,
            "tiny" => number * 2f64.powi(-100),
            "subnormal" => number * 2f64.powi(-130),
            _ => number,
        };
        number as f32
    }
}

/// The cases of the repository.
pub(crate) fn golden_cases() -> Vec<Case> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/quantized.json");
    serde_json::from_str(&std::fs::read_to_string(file).expect("golden values")).expect("golden values are JSON")
}

/// A file of `../shared`, where that is beside the checkout; says so where it is not.
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/parity/quantised").join(name);
    let found = file.exists();
    if !found {
        println!("left out: {} is not there", file.display());
    }
    found.then_some(file)
}

pub(crate) fn base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.trim_end_matches('=').bytes().map(digit).collect();
    let bytes = digits.chunks(4).flat_map(|four| {
        let word = four.iter().enumerate().fold(0u32, |word, (i, &digit)| word | u32::from(digit) << (18 - 6 * i));
        word.to_be_bytes()[1..four.len()].to_vec()
    });
    bytes.collect()
}

pub(crate) fn floats(text: &str) -> Vec<f32> {
    base64(text).as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

/// Bits, since equal numbers may have different ones.
pub(crate) fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}
