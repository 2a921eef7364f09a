//! Products with AMX, Intel's matrix tiles: `tdpbf16ps`. Rust's intrinsics are unstable, so this is inline assembly.
//!
//! Arithmetic of a tile of 32 numbers of the inner dimension, as Intel documents it: the products of the even and of the odd
//! positions are summed apart, from zero, each by a fused multiply-add in float32; the two sums are added, and the result to
//! the accumulator. Everything is rounded to nearest even. Subnormal numbers are taken for zero, and subnormal results become
//! zero.
#![allow(unsafe_code)] // inline assembly

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::tile::{PAIRS, PRODUCTS, Panels, Sums, Tile};

/// Whether the processor has AMX with bfloat16, and Linux lets this process use it. Asks once for the permission.
pub(super) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_instructions() && is_permitted())
}

fn has_instructions() -> bool {
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    let leaves = __cpuid_count(0, 0).eax;
    let features = if leaves < 7 { 0 } else { __cpuid_count(7, 0).edx };
    features & (AMX_BF16 | AMX_TILE) == AMX_BF16 | AMX_TILE
}

/// The tiles are eight kilobytes of state a thread, which Linux keeps only for processes that asked for it.
fn is_permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
    const XTILEDATA: libc::c_ulong = 18;
    // SAFETY: the call takes two numbers and no address.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0 }
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// All eight tiles with 16 rows of 64 bytes.
static CONFIGURATION: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// The tiles of this thread, configured; dropping it releases them. It stays on its thread.
pub(super) struct Tiles(PhantomData<*const ()>);

impl Tiles {
    /// # Safety
    /// The processor has AMX, and the process may use it.
    pub(super) unsafe fn configure() -> Self {
        // SAFETY: by the caller's promise. The compiler never uses tiles, so nothing that it holds is lost.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &CONFIGURATION, options(nostack, preserves_flags, readonly)) };
        Self(PhantomData)
    }

    /// The sums of all panels, one after the other: four accumulators of 16 by 16, for the halves of both factors.
    pub(super) fn sum(&mut self, panels: &[Panels<'_>], sums: &mut Sums) {
        let (starts, depth) = starts(panels);
        // SAFETY: the tiles are configured on this thread. Both pointers of `starts` lead to `depth` tiles of two kilobytes, in
        // whose halves rows are 64 bytes apart; the four accumulators are the quarters of `sums`, whose rows are 128 bytes
        // apart.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "mov {a}, [{starts}]",
                "mov {b}, [{starts} + 8]",
                "mov {left}, {depth}",
                "3:",
                "tileloadd tmm4, [{a} + 1*{stride}]",
                "tileloadd tmm6, [{b} + 1*{stride}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + 1*{stride} + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a} + 1*{stride} + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, 2048",
                "add {b}, 2048",
                "dec {left}",
                "jnz 3b",
                "add {starts}, 16",
                "dec {panels}",
                "jnz 2b",
                "add {stride}, 64",
                "tilestored [{sums} + 1*{stride}], tmm0",
                "tilestored [{sums} + 1*{stride} + 64], tmm1",
                "tilestored [{sums} + 1*{stride} + 2048], tmm2",
                "tilestored [{sums} + 1*{stride} + 2112], tmm3",
                starts = inout(reg) starts.as_ptr() => _,
                panels = inout(reg) panels.len() => _,
                depth = in(reg) depth,
                sums = in(reg) sums,
                stride = inout(reg) size_of::<[u32; PAIRS]>() => _,
                left = out(reg) _,
                a = out(reg) _,
                b = out(reg) _,
                out("tmm0") _,
                out("tmm1") _,
                out("tmm2") _,
                out("tmm3") _,
                out("tmm4") _,
                out("tmm5") _,
                out("tmm6") _,
                out("tmm7") _,
                options(nostack),
            );
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the tiles are configured on this thread.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}

/// Where the tiles of `a` and of `b` begin, and how many there are.
fn starts(panels: &[Panels<'_>]) -> ([[*const Tile; 2]; PRODUCTS], usize) {
    let depth = panels.first().map_or(0, |panels| panels.b.len());
    assert!(depth > 0 && panels.len() <= PRODUCTS, "something to sum");
    assert!(panels.iter().all(|p| p.a.tiles() == depth && p.b.len() == depth), "panels of one length");
    let mut starts = [[std::ptr::null(); 2]; PRODUCTS];
    for (start, panels) in starts.iter_mut().zip(panels) {
        let a = panels.a.packed();
        assert!(a.is_some(), "rows in tiles");
        *start = [a.unwrap_or(std::ptr::null()), panels.b.as_ptr()];
    }
    (starts, depth)
}
