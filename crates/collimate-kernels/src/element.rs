//! The numbers that kernels read and write: float32, or bfloat16 that is widened where it is read and rounded once where
//! it is written.
//!
//! Both conversions are bit operations that the compiler vectorizes inside [`dispatch`].

use std::fmt;

use half::bf16;
use rayon::prelude::*;

use crate::simd::{CHUNK, dispatch};

/// A number as a kernel's operands hold it; everything is computed in float32.
pub trait Element: Copy + Default + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// The same number in float32.
    fn widen(self) -> f32;

    /// The nearest number of this type, the even one of two; NaN stays NaN.
    fn narrow(x: f32) -> Self;

    /// The numbers themselves, if they are float32.
    fn as_float32(numbers: &[Self]) -> Option<&[f32]>;

    /// The numbers themselves for writing, if they are float32.
    fn as_float32_mut(numbers: &mut [Self]) -> Option<&mut [f32]>;

    /// The numbers themselves, if they are bfloat16.
    fn as_bfloat16(numbers: &[Self]) -> Option<&[bf16]>;
}

impl Element for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn narrow(x: f32) -> Self {
        x
    }

    fn as_float32(numbers: &[Self]) -> Option<&[f32]> {
        Some(numbers)
    }

    fn as_float32_mut(numbers: &mut [Self]) -> Option<&mut [f32]> {
        Some(numbers)
    }

    fn as_bfloat16(_: &[Self]) -> Option<&[bf16]> {
        None
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn narrow(x: f32) -> Self {
        let bits = x.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        // The bits of a NaN that are kept could all be zero, which would make it an infinity.
        let quiet = bits >> 16 | 0x40;
        Self::from_bits((if bits << 1 > 0xff00_0000 { quiet } else { rounded }) as u16)
    }

    fn as_float32(_: &[Self]) -> Option<&[f32]> {
        None
    }

    fn as_float32_mut(_: &mut [Self]) -> Option<&mut [f32]> {
        None
    }

    fn as_bfloat16(numbers: &[Self]) -> Option<&[bf16]> {
        Some(numbers)
    }
}

/// What [`in_float32`] begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// What the numbers are.
    Held,
    /// Zeros.
    Zeros,
    /// Anything, since all is overwritten.
    Unread,
}

impl Start {
    /// For a result that is added to what the numbers are, or not.
    pub(crate) fn of(accumulate: bool) -> Self {
        if accumulate { Self::Held } else { Self::Unread }
    }
}

/// Widens `from` into `to`, of equal length, on the calling thread.
pub(crate) fn widen_into<T: Element>(from: &[T], to: &mut [f32]) {
    dispatch(
        #[inline(always)]
        || {
            for (to, from) in to.iter_mut().zip(from) {
                *to = from.widen();
            }
        },
    );
}

/// The numbers in float32: themselves, or widened into `scratch`.
pub(crate) fn widened<'a, T: Element>(numbers: &'a [T], scratch: &'a mut Vec<f32>) -> &'a [f32] {
    T::as_float32(numbers).unwrap_or_else(|| {
        scratch.resize(numbers.len(), 0.0);
        widen_into(numbers, scratch);
        scratch
    })
}

/// Rounds `from` into `to`, of equal length.
pub(crate) fn narrow_into<T: Element>(from: &[f32], to: &mut [T]) {
    to.par_chunks_mut(CHUNK).zip(from.par_chunks(CHUNK)).for_each(|(to, from)| {
        dispatch(
            #[inline(always)]
            || {
                for (to, &from) in to.iter_mut().zip(from) {
                    *to = T::narrow(from);
                }
            },
        );
    });
}

/// Has `f` compute `out` in float32 and rounds it once.
pub(crate) fn in_float32<T: Element>(out: &mut [T], start: Start, f: impl FnOnce(&mut [f32])) {
    if let Some(out) = T::as_float32_mut(out) {
        if start == Start::Zeros {
            out.fill(0.0);
        }
        return f(out);
    }
    let mut numbers = vec![0.0; out.len()];
    if start == Start::Held {
        numbers.par_chunks_mut(CHUNK).zip(out.par_chunks(CHUNK)).for_each(|(to, from)| widen_into(from, to));
    }
    f(&mut numbers);
    narrow_into(&numbers, out);
}

/// Rounds float32 numbers to bfloat16, to the nearest, the even one of two; NaN stays NaN.
pub fn to_bfloat16(numbers: &[f32]) -> Vec<bf16> {
    let mut rounded = vec![bf16::ZERO; numbers.len()];
    narrow_into(numbers, &mut rounded);
    rounded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widening_is_exact_and_rounding_undoes_it() {
        for bits in 0..=u16::MAX {
            let x = bf16::from_bits(bits);
            assert_eq!(x.widen().to_bits(), u32::from(bits) << 16);
            match x.is_nan() {
                true => assert!(bf16::narrow(x.widen()).is_nan(), "{bits:#x}"),
                false => assert_eq!(bf16::narrow(x.widen()).to_bits(), bits),
            }
        }
    }

    #[test]
    fn rounding_is_to_the_nearest_and_to_the_even_one_of_two() {
        let rounded = |bits: u32| bf16::narrow(f32::from_bits(bits)).to_bits();
        assert_eq!(rounded(0x3f80_7fff), 0x3f80, "below half");
        assert_eq!(rounded(0x3f80_8000), 0x3f80, "half, to the even one below");
        assert_eq!(rounded(0x3f81_8000), 0x3f82, "half, to the even one above");
        assert_eq!(rounded(0x3f80_8001), 0x3f81, "above half");
        assert_eq!(rounded(0x7f7f_ffff), 0x7f80, "the largest float32 is beyond the largest bfloat16");
        assert_eq!(rounded(0xff80_0000), 0xff80, "an infinity");
        for nan in [0x7f80_0001, 0xff80_0001, 0x7fff_ffff, 0xffff_ffff] {
            assert!(bf16::narrow(f32::from_bits(nan)).is_nan(), "{nan:#x}");
        }
    }

    /// Every upper half of a float32 with lower halves around the points where rounding turns.
    #[test]
    fn vectorized_roundings_are_those_of_one_number() {
        let lower = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff];
        let numbers: Vec<f32> = (0..=u32::from(u16::MAX))
            .flat_map(|upper| lower.map(|lower| f32::from_bits(upper << 16 | lower)))
            .collect();
        for (&x, found) in numbers.iter().zip(to_bfloat16(&numbers)) {
            assert_eq!(found.to_bits(), bf16::from_f32(x).to_bits(), "{x}");
        }
        let mut scratch = Vec::new();
        let rounded = to_bfloat16(&numbers[..4099]);
        let wide = widened(&rounded, &mut scratch);
        assert!(wide.iter().zip(&rounded).all(|(x, r)| x.to_bits() == r.to_f32().to_bits()));
    }

    #[test]
    fn a_result_in_bfloat16_is_rounded_once() {
        let mut held = vec![bf16::ONE; 3];
        in_float32(&mut held, Start::Held, |x| (0..4).for_each(|_| x.iter_mut().for_each(|x| *x += 1.0 / 512.0)));
        assert_eq!(held, [bf16::from_f32(1.0 + 1.0 / 128.0); 3], "four steps that would each be lost");
        in_float32(&mut held, Start::Zeros, |x| assert_eq!(x, [0.0; 3]));
        assert_eq!(held, [bf16::ZERO; 3]);
    }
}
