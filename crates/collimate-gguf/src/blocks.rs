//! Encodings of values: one by one, or in blocks of 32 with a common scale.

use half::{bf16, f16};

/// Block size of [`GgufType::Q8_0`] and [`GgufType::Q4_0`].
const BLOCK: usize = 32;

/// A storage type of GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GgufType {
    /// float32.
    F32,
    /// float16, rounded to nearest, ties to even.
    F16,
    /// bfloat16, rounded to nearest, ties to even.
    BF16,
    /// Blocks of 32 eight-bit integers with a float16 scale: 8.5 bits per value.
    Q8_0,
    /// Blocks of 32 four-bit integers with a float16 scale: 4.5 bits per value.
    Q4_0,
}

impl GgufType {
    /// Every type.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::BF16, Self::Q8_0, Self::Q4_0];

    /// Its name in llama.cpp's tools (`--outtype`).
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }

    /// The type with this name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    /// ggml's id of the type.
    pub(crate) fn id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 8,
            Self::BF16 => 30,
        }
    }

    /// llama.cpp's id of a file that is mostly of this type.
    pub(crate) fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
            Self::BF16 => 32,
        }
    }

    /// Whether rows of this length divide into blocks.
    pub(crate) fn fits(self, row: usize) -> bool {
        row.is_multiple_of(self.block().0)
    }

    /// Size in bytes of a number of values that fills whole blocks.
    pub(crate) fn num_bytes(self, num_values: usize) -> usize {
        let (values, bytes) = self.block();
        num_values / values * bytes
    }

    /// Values and bytes per block.
    fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::Q8_0 => (BLOCK, 2 + BLOCK),
            Self::Q4_0 => (BLOCK, 2 + BLOCK / 2),
        }
    }

    /// Encodes finite values that fill whole blocks. The error is the first value that overflows the type.
    pub(crate) fn encode(self, values: &[f32]) -> Result<Vec<u8>, f32> {
        let mut bytes = Vec::with_capacity(self.num_bytes(values.len()));
        match self {
            Self::F32 => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::F16 => {
                for value in values {
                    bytes.extend(half(*value).ok_or(*value)?);
                }
            }
            Self::BF16 => {
                for value in values {
                    let rounded = bf16::from_f32(*value);
                    if !rounded.is_finite() {
                        return Err(*value);
                    }
                    bytes.extend(rounded.to_le_bytes());
                }
            }
            Self::Q8_0 => {
                for block in values.as_chunks::<BLOCK>().0 {
                    q8_0(block, &mut bytes)?;
                }
            }
            Self::Q4_0 => {
                for block in values.as_chunks::<BLOCK>().0 {
                    q4_0(block, &mut bytes)?;
                }
            }
        }
        Ok(bytes)
    }
}

/// The value as float16, unless it overflows.
fn half(value: f32) -> Option<[u8; 2]> {
    let rounded = f16::from_f32(value);
    rounded.is_finite().then(|| rounded.to_le_bytes())
}

/// The value of largest magnitude, the first of several.
fn largest(block: &[f32; BLOCK]) -> f32 {
    block.iter().fold(0.0, |largest: f32, value| if value.abs() > largest.abs() { *value } else { largest })
}

/// The reciprocal of a scale. Like ggml's reference, it uses the float32 scale rather than the stored float16 one.
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// d = max |x| / 127; each value is x / d, rounded half away from zero.
fn q8_0(block: &[f32; BLOCK], bytes: &mut Vec<u8>) -> Result<(), f32> {
    let largest = largest(block);
    let scale = largest.abs() / 127.0;
    let inverse = inverse(scale);
    bytes.extend(half(scale).ok_or(largest)?);
    bytes.extend(block.iter().map(|value| ((value * inverse).round() as i8).cast_unsigned()));
    Ok(())
}

/// d = (the x of largest magnitude) / −8; each value is ⌊x / d + 8.5⌋, at most 15. The first half of a block is in the low
/// four bits, the second half in the high ones.
fn q4_0(block: &[f32; BLOCK], bytes: &mut Vec<u8>) -> Result<(), f32> {
    let largest = largest(block);
    let scale = largest / -8.0;
    let inverse = inverse(scale);
    bytes.extend(half(scale).ok_or(largest)?);
    let quantized = block.map(|value| ((value * inverse + 8.5) as u8).min(15));
    let (low, high) = quantized.split_at(BLOCK / 2);
    bytes.extend(low.iter().zip(high).map(|(low, high)| low | (high << 4)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn dequantized(kind: GgufType, bytes: &[u8]) -> Vec<f32> {
        let scale = f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
        let numbers: Vec<f32> = match kind {
            GgufType::Q8_0 => bytes[2..].iter().map(|byte| f32::from(byte.cast_signed())).collect(),
            _ => {
                let nibbles = |shift: u32| bytes[2..].iter().map(move |byte| f32::from((byte >> shift) & 15) - 8.0);
                nibbles(0).chain(nibbles(4)).collect()
            }
        };
        numbers.into_iter().map(|number| number * scale).collect()
    }

    #[test]
    fn eight_bits_are_the_nearest_multiples_of_a_127th() {
        // Scale 1: halves round away from zero.
        let mut block = [0.0; 32];
        block[..5].copy_from_slice(&[127.0, -127.0, 2.5, -2.5, 2.4]);
        let bytes = GgufType::Q8_0.encode(&block).expect("in range");
        assert_eq!(bytes[..2], f16::from_f32(1.0).to_le_bytes());
        assert_eq!(bytes[2..8], [127, 129, 3, 253, 2, 0]);
        assert_eq!(bytes.len(), 34);
    }

    #[test]
    fn four_bits_have_the_largest_value_exactly_and_halves_of_a_block_in_halves_of_bytes() {
        // −8 is largest, so the scale is 1 and 8 is out of range.
        let mut block = [0.0; 32];
        block[..3].copy_from_slice(&[-8.0, 8.0, 3.0]);
        block[16..19].copy_from_slice(&[-1.0, 7.0, 0.5]);
        let bytes = GgufType::Q4_0.encode(&block).expect("in range");
        assert_eq!(bytes[..2], f16::from_f32(1.0).to_le_bytes());
        assert_eq!(bytes[2..6], [7 << 4, 15 | (15 << 4), 11 | (9 << 4), 8 | (8 << 4)]);
        assert_eq!(bytes.len(), 18);
    }

    #[rstest]
    #[case(GgufType::Q8_0)]
    #[case(GgufType::Q4_0)]
    fn a_block_of_zeros_is_zeros(#[case] kind: GgufType) {
        assert_eq!(dequantized(kind, &kind.encode(&[0.0; 32]).expect("in range")), [0.0; 32]);
    }

    #[rstest]
    #[case(GgufType::F16, 7e4)]
    #[case(GgufType::Q8_0, 1e7)]
    #[case(GgufType::Q4_0, -1e6)]
    #[case(GgufType::BF16, f32::MAX)]
    fn a_value_beyond_the_type_is_an_error(#[case] kind: GgufType, #[case] value: f32) {
        let mut block = [1.0; 32];
        block[3] = value;
        assert_eq!(kind.encode(&block), Err(value));
    }

    #[test]
    fn names_are_llama_cpps_in_any_case() {
        for kind in GgufType::ALL {
            assert_eq!(GgufType::from_name(&kind.name().to_uppercase()), Some(kind));
        }
        assert_eq!(GgufType::from_name("q4_K_M"), None);
    }

    proptest! {
        #[test]
        fn no_value_moves_further_than_its_step(
            values in prop::collection::vec(-1e3_f32..1e3, 64),
            shrink in 1e-6_f32..1.0,
        ) {
            let values: Vec<f32> = values.into_iter().map(|value| value * shrink).collect();
            // Half a step from rounding; one step at the end that has no code; and the scale's own rounding to float16.
            for (kind, steps, per_step) in [(GgufType::Q8_0, 127.0, 0.5_f32), (GgufType::Q4_0, 8.0, 1.0)] {
                let bytes = kind.encode(&values).expect("in range");
                for (block, bytes) in values.chunks(32).zip(bytes.chunks(kind.num_bytes(32))) {
                    let largest = block.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
                    let bound = largest / steps * per_step * 1.001 + largest / 1024.0 + 1e-4 * shrink.max(1e-3);
                    for (value, back) in block.iter().zip(dequantized(kind, bytes)) {
                        prop_assert!((value - back).abs() <= bound, "{kind:?}: {value} became {back}");
                    }
                }
            }
        }
    }
}
