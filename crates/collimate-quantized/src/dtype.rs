//! Types of numbers: those of tensors in files, and those that weights are rounded to.

use half::{bf16, f16};

/// The type of a tensor's numbers, by its name in safetensors files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// Unsigned bytes.
    U8,
    /// Signed bytes.
    I8,
    /// 32-bit integers.
    I32,
    /// 8-bit floats with 4 bits of exponent, no infinities.
    F8E4M3,
    /// 8-bit powers of two.
    F8E8M0,
    /// IEEE half precision.
    F16,
    /// The upper half of a float32.
    Bf16,
    /// Single precision.
    F32,
    /// A type that no packed weight is stored in.
    Other,
}

impl Dtype {
    const NAMES: [(&'static str, Self); 8] = [
        ("U8", Self::U8),
        ("I8", Self::I8),
        ("I32", Self::I32),
        ("F8_E4M3", Self::F8E4M3),
        ("F8_E8M0", Self::F8E8M0),
        ("F16", Self::F16),
        ("BF16", Self::Bf16),
        ("F32", Self::F32),
    ];

    /// The type that the header of a safetensors file names.
    pub fn from_safetensors(name: &str) -> Self {
        Self::NAMES.iter().find(|(known, _)| *known == name).map_or(Self::Other, |(_, dtype)| *dtype)
    }

    /// The name in safetensors files.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, dtype)| *dtype == self).map_or("another type", |(name, _)| name)
    }
}

/// A type of floating-point numbers that weights come in, and that unpacked weights are rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FloatDtype {
    /// Single precision.
    F32,
    /// The upper half of a float32.
    Bf16,
    /// IEEE half precision.
    F16,
}

impl FloatDtype {
    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// The name that PyTorch has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    pub(crate) fn from_torch(name: &str) -> Option<Self> {
        [Self::F32, Self::Bf16, Self::F16].into_iter().find(|dtype| dtype.name() == name)
    }

    pub(crate) fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::Bf16 => Some(Self::Bf16),
            Dtype::F16 => Some(Self::F16),
            _ => None,
        }
    }

    /// The number at a position of little-endian bytes.
    #[inline(always)]
    pub(crate) fn read(self, bytes: &[u8], index: usize) -> f32 {
        match self {
            Self::F32 => read_f32(bytes, index),
            Self::Bf16 => bf16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]]).to_f32(),
            Self::F16 => f16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]]).to_f32(),
        }
    }

    /// Rounds to the nearest number of this type, to even at a midpoint.
    #[inline(always)]
    pub(crate) fn round(self, x: f32) -> f32 {
        match self {
            Self::F32 => x,
            Self::Bf16 => round_to_bf16(x),
            Self::F16 => round_to_f16(x),
        }
    }
}

/// Rounds a finite number; integer arithmetic, so that a loop over it is vectorized.
#[inline(always)]
fn round_to_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits(bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
}

/// Rounds a finite number; one beyond 65504 becomes infinite.
#[inline(always)]
pub(crate) fn round_to_f16(x: f32) -> f32 {
    const SMALLEST_NORMAL: f32 = 1.0 / 16_384.0;
    const BEYOND: f32 = 65_536.0;
    let bits = x.to_bits();
    let normal = f32::from_bits(bits.wrapping_add(0xfff + ((bits >> 13) & 1)) & !0x1fff);
    // The distance between numbers from a half on is that between subnormal numbers of float16.
    let small = ((x.abs() + 0.5) - 0.5).copysign(x);
    let rounded = if x.abs() < SMALLEST_NORMAL { small } else { normal };
    if rounded.abs() < BEYOND { rounded } else { f32::INFINITY.copysign(x) }
}

/// The float32 at a position of little-endian bytes, which need not be aligned.
#[inline(always)]
pub(crate) fn read_f32(bytes: &[u8], index: usize) -> f32 {
    let at = 4 * index;
    f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The 32-bit word at a position of little-endian bytes, which need not be aligned.
#[inline(always)]
pub(crate) fn read_u32(bytes: &[u8], index: usize) -> u32 {
    let at = 4 * index;
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Numbers of a matrix, row after row.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Numbers in memory.
    F32(&'a [f32]),
    /// Little-endian bytes, as in a file.
    Bytes(FloatDtype, &'a [u8]),
}

impl Values<'_> {
    /// How many numbers there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bytes(dtype, bytes) => bytes.len() / dtype.size(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type they come in.
    pub fn dtype(&self) -> FloatDtype {
        match self {
            Self::F32(_) => FloatDtype::F32,
            Self::Bytes(dtype, _) => *dtype,
        }
    }

    /// Copies the numbers from `start` on.
    pub(crate) fn copy_to(&self, start: usize, out: &mut [f32]) {
        match self {
            Self::F32(values) => out.copy_from_slice(&values[start..start + out.len()]),
            Self::Bytes(dtype, bytes) => {
                let bytes = &bytes[start * dtype.size()..];
                match dtype {
                    FloatDtype::F32 => out.iter_mut().enumerate().for_each(|(i, x)| *x = read_f32(bytes, i)),
                    _ => out.iter_mut().enumerate().for_each(|(i, x)| *x = dtype.read(bytes, i)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_as_the_types_round_them() {
        let around = |x: f32| [-3, -1, 0, 1, 2].map(|ulps| f32::from_bits((x.to_bits() as i32 + ulps) as u32));
        // Every float16 and the midpoints to the next, of both signs.
        let halves = (1..f16::INFINITY.to_bits()).map(|bits| f16::from_bits(bits).to_f32());
        let midpoints = halves.clone().zip(halves.clone().skip(1)).map(|(a, b)| (a + b) / 2.0);
        let extremes = [65_520.0, 1e-30, 1e30, 3e-8];
        for x in halves.chain(midpoints).chain(extremes).flat_map(around) {
            for x in [x, -x] {
                assert_eq!(FloatDtype::F16.round(x).to_bits(), f16::from_f32(x).to_f32().to_bits(), "{x}");
                assert_eq!(FloatDtype::Bf16.round(x).to_bits(), bf16::from_f32(x).to_f32().to_bits(), "{x}");
            }
        }
    }
}
