//! Looks up 16 numbers by codes of four bits, with each instruction set.

/// An instruction set that looks numbers up.
pub(crate) trait Expand: Copy {
    /// Two numbers for each byte, that of the high half first or that of the low one.
    fn pairs<const LOW_FIRST: bool>(self, table: &[f32; 16], bytes: &[u8], out: &mut [f32]);
}

/// No instructions in particular.
#[derive(Clone, Copy)]
pub(crate) struct Plain;

impl Expand for Plain {
    #[inline(always)]
    fn pairs<const LOW_FIRST: bool>(self, table: &[f32; 16], bytes: &[u8], out: &mut [f32]) {
        for (&byte, pair) in bytes.iter().zip(out.as_chunks_mut::<2>().0) {
            let [high, low] = [table[usize::from(byte >> 4)], table[usize::from(byte & 15)]];
            *pair = if LOW_FIRST { [low, high] } else { [high, low] };
        }
    }
}

/// Looks up codes from a position on, which need not be even.
#[inline(always)]
pub(crate) fn look_up<const LOW_FIRST: bool>(
    expand: impl Expand,
    table: &[f32; 16],
    codes: &[u8],
    mut code: usize,
    mut out: &mut [f32],
) {
    let even = |byte: u8| table[usize::from(if LOW_FIRST { byte & 15 } else { byte >> 4 })];
    let odd = |byte: u8| table[usize::from(if LOW_FIRST { byte >> 4 } else { byte & 15 })];
    if code % 2 == 1 {
        let Some((first, rest)) = out.split_first_mut() else { return };
        *first = odd(codes[code / 2]);
        (code, out) = (code + 1, rest);
    }
    let bytes = &codes[code / 2..(code + out.len()).div_ceil(2)];
    // Loops of the usual blocks' length, 64 of NF4 and 32 of MXFP4, have no remainder.
    let (bytes, out) = match LOW_FIRST {
        true => blocks::<LOW_FIRST, 16, 32>(expand, table, bytes, out),
        false => blocks::<LOW_FIRST, 32, 64>(expand, table, bytes, out),
    };
    let (pairs, last) = out.split_at_mut(out.len() & !1);
    expand.pairs::<LOW_FIRST>(table, &bytes[..pairs.len() / 2], pairs);
    if let ([last], Some(&byte)) = (last, bytes.last()) {
        *last = even(byte);
    }
}

/// Looks up blocks of a fixed length; returns what is left. Without closures, which are compiled without the instruction set
/// unless they happen to be inlined.
#[inline(always)]
fn blocks<'b, 'o, const LOW_FIRST: bool, const BYTES: usize, const NUMBERS: usize>(
    expand: impl Expand,
    table: &[f32; 16],
    bytes: &'b [u8],
    out: &'o mut [f32],
) -> (&'b [u8], &'o mut [f32]) {
    let (whole, out) = out.as_chunks_mut::<NUMBERS>();
    let (blocks, bytes) = bytes.split_at(whole.len() * BYTES);
    for (bytes, out) in blocks.as_chunks::<BYTES>().0.iter().zip(whole) {
        expand.pairs::<LOW_FIRST>(table, bytes, out);
    }
    (bytes, out)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use pulp::cast;
    use pulp::x86::{V3, V4};
    use std::arch::x86_64::{__m256, __m512};

    use super::{Expand, Plain};

    /// How far the codes of eight numbers are shifted within their four bytes.
    const HIGH_FIRST_SHIFTS: [i32; 8] = [4, 0, 12, 8, 20, 16, 28, 24];
    const LOW_FIRST_SHIFTS: [i32; 8] = [0, 4, 8, 12, 16, 20, 24, 28];

    impl Expand for V3 {
        #[inline(always)]
        fn pairs<const LOW_FIRST: bool>(self, table: &[f32; 16], bytes: &[u8], out: &mut [f32]) {
            let shifts = if LOW_FIRST { LOW_FIRST_SHIFTS } else { HIGH_FIRST_SHIFTS };
            let (bytes, out) = avx2(self, shifts, table, bytes, out);
            Plain.pairs::<LOW_FIRST>(table, bytes, out);
        }
    }

    /// Eight numbers at a time; returns what is left.
    #[inline(always)]
    fn avx2<'b, 'o>(
        simd: V3,
        shifts: [i32; 8],
        table: &[f32; 16],
        bytes: &'b [u8],
        out: &'o mut [f32],
    ) -> (&'b [u8], &'o mut [f32]) {
        let (words, rest) = bytes.as_chunks::<4>();
        let (eights, rest_out) = out.as_chunks_mut::<8>();
        let [low, high]: [__m256; 2] = cast(*table);
        for (&word, eight) in words.iter().zip(eights) {
            // A permutation looks at three bits of a code, the fourth chooses between both halves of the table.
            let codes = simd.avx2._mm256_srlv_epi32(simd.avx._mm256_set1_epi32(i32::from_le_bytes(word)), cast(shifts));
            let sign = simd.avx2._mm256_slli_epi32::<28>(codes);
            let lower = simd.avx2._mm256_permutevar8x32_ps(low, codes);
            let upper = simd.avx2._mm256_permutevar8x32_ps(high, codes);
            *eight = cast(simd.avx._mm256_blendv_ps(lower, upper, cast(sign)));
        }
        (rest, rest_out)
    }

    impl Expand for V4 {
        #[inline(always)]
        fn pairs<const LOW_FIRST: bool>(self, table: &[f32; 16], bytes: &[u8], out: &mut [f32]) {
            let shifts = if LOW_FIRST { LOW_FIRST_SHIFTS } else { HIGH_FIRST_SHIFTS };
            let (bytes, out) = avx512(self, shifts, table, bytes, out);
            Plain.pairs::<LOW_FIRST>(table, bytes, out);
        }
    }

    /// Sixteen numbers at a time; returns what is left.
    #[inline(always)]
    fn avx512<'b, 'o>(
        simd: V4,
        shifts: [i32; 8],
        table: &[f32; 16],
        bytes: &'b [u8],
        out: &'o mut [f32],
    ) -> (&'b [u8], &'o mut [f32]) {
        let (words, rest) = bytes.as_chunks::<8>();
        let (sixteens, rest_out) = out.as_chunks_mut::<16>();
        let table: __m512 = cast(*table);
        for (&[a, b, c, d, e, f, g, h], sixteen) in words.iter().zip(sixteens) {
            let first = simd.avx512f._mm512_set1_epi32(i32::from_le_bytes([a, b, c, d]));
            let both = simd.avx512f._mm512_mask_set1_epi32(first, 0xff00, i32::from_le_bytes([e, f, g, h]));
            // A permutation looks at the low four bits only.
            let codes = simd.avx512f._mm512_srlv_epi32(both, cast([shifts, shifts]));
            *sixteen = cast(simd.avx512f._mm512_permutexvar_ps(codes, table));
        }
        (rest, rest_out)
    }
}
