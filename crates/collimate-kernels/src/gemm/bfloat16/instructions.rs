//! Which instructions multiply bfloat16 numbers on this processor.
#![allow(unsafe_code)] // calls what only some processors have

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use super::amx;
#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::plain;
use super::tile::{DEPTH, LANES, PAIRS, PRODUCTS, Panels, Rows, SIDE, Sums, Tile};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Matrix tiles.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx,
    /// Dot products of pairs.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// Plain code, only if it is asked for.
    Plain,
}

/// Environment variable that names the instructions to use, for tests and comparisons: `plain`, or some that the processor has.
const CHOICE: &str = "COLLIMATE_BFLOAT16_PRODUCTS";

/// All, the fastest first.
const KINDS: &[Kind] = &[
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Kind::Amx,
    #[cfg(target_arch = "x86_64")]
    Kind::Avx512,
    Kind::Plain,
];

/// Instructions that multiply tiles of bfloat16 numbers; there is a value only for those that the processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instructions(Kind);

/// Sums panels into a block, of which the first rows are wanted.
pub(super) type Sum<'s> = dyn FnMut(&[Panels<'_>], usize, &mut Sums) + 's;

impl Kind {
    fn is_available(self) -> bool {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx => amx::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16"),
            Self::Plain => false,
        }
    }
}

impl Instructions {
    /// The fastest that this processor has, unless others were asked for.
    pub(super) fn fastest() -> Option<Self> {
        match FORCED.load(Ordering::Relaxed) {
            NOT_FORCED => Self::available().first().copied(),
            index => Self::available().get(usize::from(index)).copied(),
        }
    }

    /// All that this processor has, the fastest first; or those that the environment names.
    pub(super) fn available() -> &'static [Self] {
        static AVAILABLE: OnceLock<Vec<Instructions>> = OnceLock::new();
        AVAILABLE.get_or_init(|| {
            let chosen = std::env::var(CHOICE).unwrap_or_default();
            let is_chosen = |kind: &Kind| Self(*kind).name() == chosen;
            let has = |kind: &Kind| kind.is_available() || *kind == Kind::Plain;
            match KINDS.iter().copied().find(|kind| has(kind) && is_chosen(kind)) {
                Some(kind) => vec![Self(kind)],
                None => KINDS.iter().copied().filter(|kind| kind.is_available()).map(Self).collect(),
            }
        })
    }

    /// Those, plain code, and AMX, which the emulator provides to tests where the processor lacks it.
    #[cfg(test)]
    pub(super) fn testable() -> Vec<Self> {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        super::emulator::provide_amx();
        let is_testable = |kind: &Kind| kind.is_available() || ["amx", "plain"].contains(&Self(*kind).name());
        KINDS.iter().copied().filter(is_testable).map(Self).collect()
    }

    pub(super) fn name(self) -> &'static str {
        match self.0 {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Kind::Amx => "amx",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512_bf16",
            Kind::Plain => "plain",
        }
    }

    /// Whether three products of halves are faster than one in float32. Pairs in AVX-512 are at best twice as fast as float32.
    pub(super) fn outrun_float32_threefold(self) -> bool {
        match self.0 {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Kind::Amx => true,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => false,
            // Who asks for it wants its numbers.
            Kind::Plain => true,
        }
    }

    /// Whether rows of a matrix are read where they are, so that only columns need packing.
    pub(super) fn reads_rows_in_place(self) -> bool {
        match self.0 {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Kind::Amx => false,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => true,
            Kind::Plain => true,
        }
    }

    /// Runs a task on this thread with what sums blocks.
    ///
    /// # Safety
    /// The panels that the task sums have as many rows as it names, rounded up to a multiple of eight.
    pub(super) unsafe fn run(self, task: impl FnOnce(&mut Sum<'_>)) {
        match self.0 {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Kind::Amx => {
                // SAFETY: the processor has it.
                let mut tiles = unsafe { amx::Tiles::configure() };
                task(&mut |panels, _, sums| tiles.sum(panels, sums));
            }
            // SAFETY: the processor has it; and by the caller's promise.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => task(&mut |panels, rows, sums| unsafe { avx512::sum(panels, rows, sums) }),
            // SAFETY: by the caller's promise.
            Kind::Plain => task(&mut |panels, rows, sums| unsafe { plain::sum(panels, rows, sums) }),
        }
    }
}

const NOT_FORCED: u8 = u8::MAX;

/// An index into the available instructions, or one beyond for none of them.
static FORCED: AtomicU8 = AtomicU8::new(NOT_FORCED);

/// The names of the instructions that this processor has for products of bfloat16 numbers, the fastest first.
#[doc(hidden)]
pub fn all_bfloat16_products() -> Vec<&'static str> {
    Instructions::available().iter().map(|i| i.name()).collect()
}

/// For benchmarks: makes all products use the instructions of this name, or with `"portable"` none of them. Returns whether the
/// processor has them; if not, nothing changes.
#[doc(hidden)]
pub fn force_bfloat16_products(name: &str) -> bool {
    let position = Instructions::available().iter().position(|i| i.name() == name);
    let index = position.or((name == "portable").then_some(Instructions::available().len()));
    index.is_some_and(|index| {
        FORCED.store(index as u8, Ordering::Relaxed);
        true
    })
}

/// For benchmarks: sums panels in the first-level cache on this thread, `rounds` times, with the instructions of this name.
/// Returns the number of additions and multiplications, or none if the processor lacks them.
#[doc(hidden)]
pub fn bare_bfloat16_products(name: &str, rounds: usize) -> Option<f64> {
    const TILES: usize = 6;
    let instructions = Instructions::available().iter().find(|i| i.name() == name)?;
    let tiles = vec![Tile([[0x3f80_3f80; LANES * PAIRS]; 2]); 2 * TILES];
    let panels = [Panels { a: Rows::of_tiles(&tiles[..TILES]), b: &tiles[TILES..] }; PRODUCTS];
    let mut sums = Sums([[0.0; SIDE]; SIDE]);
    // SAFETY: tiles have 32 rows.
    unsafe { instructions.run(|sum| (0..rounds).for_each(|_| sum(&panels, SIDE, &mut sums))) };
    assert_eq!(std::hint::black_box(sums).0[0][0], (PRODUCTS * TILES * DEPTH) as f32);
    Some((rounds * PRODUCTS * TILES * DEPTH * 2 * SIDE * SIDE) as f64)
}
