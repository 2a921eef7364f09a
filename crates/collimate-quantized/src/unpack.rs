//! Unpacking tiles: the choice of instructions, and what all formats share.
//!
//! A format is plain loops, `#[inline(always)]`, compiled once for each instruction set; a table of 16 numbers is looked up
//! by [`Expand`]. Nothing is added up and a product is one operation, so all instruction sets give the same bits.

mod expand;
#[cfg(test)]
mod tests;

use std::ops::Range;

use expand::Plain;
pub(crate) use expand::{Expand, look_up};

/// A part of a matrix, and where its numbers go, row after row.
pub(crate) struct Tile<'a> {
    pub(crate) rows: Range<usize>,
    pub(crate) columns: Range<usize>,
    pub(crate) out: &'a mut [f32],
}

/// Loops that unpack a tile, compiled for each instruction set.
pub(crate) trait Kernel {
    /// Runs the loops; must be `#[inline(always)]`.
    fn run(self, expand: impl Expand);
}

/// An instruction set to unpack with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instructions {
    /// The widest that this processor has.
    Widest,
    /// AVX2, where there is more.
    #[cfg(all(test, target_arch = "x86_64"))]
    Avx2,
    /// What every processor has.
    #[cfg(test)]
    Plain,
}

impl Instructions {
    pub(crate) fn run(self, kernel: impl Kernel) {
        match self {
            Self::Widest => widest(kernel),
            #[cfg(all(test, target_arch = "x86_64"))]
            Self::Avx2 => match pulp::x86::V3::try_new() {
                Some(avx2) => avx2.vectorize(Vectorized { kernel, expand: avx2 }),
                None => kernel.run(Plain),
            },
            #[cfg(test)]
            Self::Plain => kernel.run(Plain),
        }
    }
}

fn widest(kernel: impl Kernel) {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx512) = pulp::x86::V4::try_new() {
        return avx512.vectorize(Vectorized { kernel, expand: avx512 });
    } else if let Some(avx2) = pulp::x86::V3::try_new() {
        return avx2.vectorize(Vectorized { kernel, expand: avx2 });
    }
    pulp::Arch::new().dispatch(Vectorized { kernel, expand: Plain });
}

/// The largest magnitude of some numbers; one that is not a number is passed over.
#[inline(always)]
pub(crate) fn largest_magnitude(numbers: &[f32]) -> f32 {
    const LANES: usize = 16;
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, rest) = numbers.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, x.abs());
        }
    }
    lanes.into_iter().chain(rest.iter().map(|x| x.abs())).fold(0.0, larger)
}

struct Vectorized<K, E> {
    kernel: K,
    expand: E,
}

impl<K: Kernel, E: Expand> pulp::NullaryFnOnce for Vectorized<K, E> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.kernel.run(self.expand);
    }
}
