//! Weights drawn from a seed, bit-identical to those that `tests/python/golden_models.py` draws for PyTorch.

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Increment of SplitMix64.
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// `NAME.safetensors.json`: the contents of a safetensors file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TensorList {
    seed: u64,
    dtype: Dtype,
    /// Checksum of the file.
    pub(super) sha256: String,
    /// Shape, mean and standard deviation by name, in the file's order.
    tensors: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Dtype {
    Float32,
    Bfloat16,
}

impl TensorList {
    /// The file's bytes.
    ///
    /// # Errors
    /// A tensor is not described as `[shape, mean, standard deviation]`.
    pub(super) fn file(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut header = Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
        let mut data: Vec<u8> = Vec::new();
        for (name, described) in &self.tensors {
            let (shape, mean, std): (Vec<usize>, f64, f64) = Deserialize::deserialize(described)?;
            let start = data.len();
            for value in draw(self.seed, name, shape.iter().product(), mean, std) {
                match self.dtype {
                    Dtype::Float32 => data.extend(value.to_le_bytes()),
                    Dtype::Bfloat16 => data.extend(bfloat16(value).to_le_bytes()),
                }
            }
            let dtype = match self.dtype {
                Dtype::Float32 => "F32",
                Dtype::Bfloat16 => "BF16",
            };
            header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]}));
        }
        let mut header = serde_json::to_vec(&header)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        Ok([&(header.len() as u64).to_le_bytes()[..], &header, &data].concat())
    }
}

/// The finalizer of SplitMix64.
fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Elements of the tensor with this name: approximately normal, by integer arithmetic and two roundings, so that every
/// machine and language gets the same bits.
fn draw(seed: u64, name: &str, count: usize, mean: f64, std: f64) -> impl Iterator<Item = f32> {
    let start = mix(seed.wrapping_add(GAMMA));
    let key = name.bytes().fold(start, |key, byte| mix((key ^ u64::from(byte)).wrapping_add(GAMMA)));
    // Standard deviation of the sum of four numbers drawn from 0..65536.
    let spread = ((65536.0_f64 * 65536.0 - 1.0) / 3.0).sqrt();
    let (scale, mean) = ((std / spread) as f32, mean as f32);
    (1..=count as u64).map(move |counter| {
        let bits = mix(key.wrapping_add(counter.wrapping_mul(GAMMA)));
        let sum: i64 = (0..4).map(|k| (bits >> (16 * k) & 0xFFFF) as i64).sum();
        (sum - 131_070) as f32 * scale + mean
    })
}

/// Rounded to nearest, ties to even.
fn bfloat16(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_deviation_are_those_asked_for() {
        let values: Vec<f64> = draw(1, "x", 100_000, 2.0, 0.5).map(f64::from).collect();
        let mean = values.iter().sum::<f64>() / 1e5;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 1e5;
        // Five standard errors.
        assert!((mean - 2.0).abs() < 5.0 * 0.5 / 1e5_f64.sqrt(), "{mean}");
        assert!((variance.sqrt() - 0.5).abs() < 5.0 * 0.5 / 2e5_f64.sqrt(), "{variance}");
    }

    #[test]
    fn seeds_and_names_draw_different_tensors() {
        let draw = |seed, name| draw(seed, name, 8, 0.0, 1.0).collect::<Vec<_>>();
        assert_eq!(draw(1, "x"), draw(1, "x"));
        assert_ne!(draw(1, "x"), draw(2, "x"));
        assert_ne!(draw(1, "x"), draw(1, "y"));
    }

    #[test]
    fn bfloat16_rounds_to_the_nearest_even() {
        let rounded = |value: f32| f32::from_bits(u32::from(bfloat16(value)) << 16);
        assert_eq!(rounded(1.0 + 1.0 / 256.0), 1.0);
        assert_eq!(rounded(1.0 + 3.0 / 256.0), 1.0 + 4.0 / 256.0);
        assert_eq!(rounded(-1.0 - 1.0 / 255.0), -1.0 - 2.0 / 256.0);
    }
}
