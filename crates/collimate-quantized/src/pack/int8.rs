//! Packing into eight bits: each row by its largest magnitude.

use bytes::Bytes;
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::{bad_number, first};
use crate::dtype::{Values, round_to_f16};
use crate::error::QuantizedError;
use crate::int8::Int8;
use crate::unpack::largest_magnitude;

/// Packs rows. bitsandbytes rounds weights to float16 before it packs them, so this does.
pub(super) fn pack(values: Values<'_>, columns: usize) -> Result<Int8, QuantizedError> {
    let mut codes = vec![0u8; values.len()];
    let mut scales = vec![0u8; values.len() / columns * 4];
    let rows = codes.par_chunks_mut(columns).zip(scales.par_chunks_mut(4)).enumerate();
    let bad = rows.map_init(Vec::new, |numbers, (row, (codes, scale))| {
        numbers.resize(columns, 0.0);
        values.copy_to(row * columns, numbers);
        scale.copy_from_slice(&Arch::new().dispatch(PackRow { numbers, codes }).to_le_bytes());
        numbers.iter().position(|x| !x.is_finite()).map(|column| row * columns + column)
    });
    match bad.reduce(|| None, first) {
        Some(position) => Err(bad_number(values, position, columns, "int8, through float16,")),
        None => Ok(Int8 { codes: Bytes::from(codes), scales: Bytes::from(scales) }),
    }
}

/// Rounds a row to float16, packs it and returns its largest magnitude.
struct PackRow<'a> {
    numbers: &'a mut [f32],
    codes: &'a mut [u8],
}

impl NullaryFnOnce for PackRow<'_> {
    type Output = f32;

    #[inline(always)]
    fn call(self) -> f32 {
        self.numbers.iter_mut().for_each(|x| *x = round_to_f16(*x));
        let largest = largest_magnitude(self.numbers);
        // PyTorch divides a number by a tensor as the number times the tensor's reciprocal, which is rounded once more.
        let factor = largest.recip() * 127.0;
        for (code, &x) in self.codes.iter_mut().zip(&*self.numbers) {
            // A row of zeros has an infinite factor; 0 · ∞ becomes 0.
            *code = (x * factor).round_ties_even() as i8 as u8;
        }
        largest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Divided at once, the second number is −63.5, whose nearest even code is another one.
    #[test]
    fn a_number_between_two_codes_is_rounded_as_pytorch_does() {
        let packed = pack(Values::F32(&[0.690_917_97, -0.345_458_98]), 2).unwrap();
        assert_eq!(packed.codes[..], [127, -63i8 as u8]);
    }
}
