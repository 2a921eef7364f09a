//! Which instructions multiply bfloat16 numbers on this processor.
#![allow(unsafe_code)] // calls what only some processors have

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use super::amx;
#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::tile::{Panels, Sums};

/// Instructions that multiply tiles of bfloat16 numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instructions {
    /// Matrix tiles.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx,
    /// Dot products of pairs.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// Sums panels into a block, of which the first rows are wanted.
pub(super) type Sum<'s> = dyn FnMut(&[Panels<'_>], usize, &mut Sums) + 's;

impl Instructions {
    /// All, the fastest first.
    pub(super) const ALL: &[Self] = &[
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        Self::Amx,
        #[cfg(target_arch = "x86_64")]
        Self::Avx512,
    ];

    /// The fastest that this processor has, unless others were asked for.
    pub(super) fn fastest() -> Option<Self> {
        static FASTEST: OnceLock<Option<Instructions>> = OnceLock::new();
        match FORCED.load(Ordering::Relaxed) {
            NOT_FORCED => *FASTEST.get_or_init(|| Self::ALL.iter().copied().find(|i| i.are_available())),
            index => Self::ALL.get(usize::from(index)).copied(),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx => "amx",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512_bf16",
        }
    }

    pub(super) fn are_available(self) -> bool {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx => amx::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16"),
        }
    }

    /// Whether three products of halves are faster than one in float32. Pairs in AVX-512 are at best twice as fast as float32.
    pub(super) fn outrun_float32_threefold(self) -> bool {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => false,
        }
    }

    /// Runs a task on this thread with what sums blocks.
    ///
    /// # Safety
    /// The processor has the instructions.
    pub(super) unsafe fn run(self, task: impl FnOnce(&mut Sum<'_>)) {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx => {
                // SAFETY: by the caller's promise.
                let mut tiles = unsafe { amx::Tiles::configure() };
                task(&mut |panels, _, sums| tiles.sum(panels, sums));
            }
            // SAFETY: by the caller's promise.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => task(&mut |panels, rows, sums| unsafe { avx512::sum(panels, rows, sums) }),
        }
    }
}

const NOT_FORCED: u8 = u8::MAX;

/// An index into the instructions, or one beyond for none of them.
static FORCED: AtomicU8 = AtomicU8::new(NOT_FORCED);

/// The names of the instructions that this processor has for products of bfloat16 numbers, the fastest first.
#[doc(hidden)]
pub fn all_bfloat16_products() -> Vec<&'static str> {
    Instructions::ALL.iter().filter(|i| i.are_available()).map(|i| i.name()).collect()
}

/// For benchmarks: makes all products use the instructions of this name, or with `"portable"` none of them. Returns whether the
/// processor has them; if not, nothing changes.
#[doc(hidden)]
pub fn force_bfloat16_products(name: &str) -> bool {
    let position = Instructions::ALL.iter().position(|i| i.name() == name && i.are_available());
    let index = position.or((name == "portable").then_some(Instructions::ALL.len()));
    index.is_some_and(|index| {
        FORCED.store(index as u8, Ordering::Relaxed);
        true
    })
}
