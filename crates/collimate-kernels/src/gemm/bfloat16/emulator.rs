//! AMX on a processor without it, for tests: a handler of SIGILL performs the tile instructions as Intel documents them, so
//! that the inline assembly itself is tested anywhere. Whatever else is illegal remains so.
#![allow(unsafe_code)] // a signal handler that reads and writes what instructions address

use std::cell::RefCell;
use std::sync::Once;

use libc::{c_int, c_void, siginfo_t, ucontext_t};

use super::amx;

/// Makes AMX work in this process: the processor's own, or this one.
pub(super) fn provide_amx() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        if amx::is_available() {
            return;
        }
        // SAFETY: `action` is whole, and the handler has the signature that SA_SIGINFO asks for.
        let status = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_illegal_instruction as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGILL, &action, std::ptr::null_mut())
        };
        assert_eq!(status, 0, "a handler of SIGILL");
    });
}

/// The state of a thread's tiles.
struct State {
    /// Bytes of a row and rows of each tile; none until configured.
    shapes: Option<[[usize; 2]; 8]>,
    tiles: [[[u8; 64]; 16]; 8],
}

thread_local! {
    static STATE: RefCell<State> = const { RefCell::new(State { shapes: None, tiles: [[[0; 64]; 16]; 8] }) };
}

extern "C" fn on_illegal_instruction(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes the context of this thread, which was interrupted at an instruction that can be read.
    let (registers, code) = unsafe {
        let registers = &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs;
        let at = registers[libc::REG_RIP as usize] as *const [u8; 16];
        (registers, std::ptr::read_unaligned(at))
    };
    let length = Instruction::decode(&code, registers)
        .and_then(|(instruction, length)| STATE.with_borrow_mut(|state| state.perform(instruction)).map(|()| length));
    match length {
        Some(length) => registers[libc::REG_RIP as usize] += length as i64,
        // SAFETY: as if there had been no handler: the instruction is met again and ends the process.
        None => unsafe {
            libc::signal(libc::SIGILL, libc::SIG_DFL);
        },
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Instruction {
    Configure { from: usize },
    Release,
    Zero { tile: usize },
    Load { tile: usize, from: usize, stride: isize },
    Store { tile: usize, to: usize, stride: isize },
    Multiply { sums: usize, a: usize, b: usize },
}

impl Instruction {
    /// An instruction with a VEX prefix of three bytes in the map 0F38, and its length.
    fn decode(code: &[u8; 16], registers: &[i64; 23]) -> Option<(Self, usize)> {
        let &[0xc4, map, prefix, opcode, modrm, ..] = code else { return None };
        // Not W, not L; the extension bits are stored inverted.
        if map & 0x1f != 2 || prefix & 0x84 != 0 {
            return None;
        }
        let [r, x, b] = [0x80, 0x40, 0x20].map(|bit| if map & bit == 0 { 8 } else { 0 });
        let (v, p) = (usize::from(!prefix >> 3 & 15), prefix & 3);
        let (reg, rm) = (r + usize::from(modrm >> 3 & 7), b + usize::from(modrm & 7));
        let memory = || Address::decode(&code[4..], x, b, registers);
        let is_register = modrm >> 6 == 3;
        let (instruction, operand) = match (opcode, p, is_register) {
            (0x49, 0, true) if modrm == 0xc0 => (Self::Release, 1),
            (0x49, 0, false) => memory().map(|m| (Self::Configure { from: m.at(0) }, m.length))?,
            (0x49, 3, true) => (Self::Zero { tile: reg }, 1),
            (0x4b, 3, false) => {
                memory().map(|m| (Self::Load { tile: reg, from: m.base, stride: m.index }, m.length))?
            }
            (0x4b, 2, false) => memory().map(|m| (Self::Store { tile: reg, to: m.base, stride: m.index }, m.length))?,
            (0x5c, 2, true) => (Self::Multiply { sums: reg, a: rm, b: v }, 1),
            _ => return None,
        };
        Some((instruction, 4 + operand))
    }
}

/// A memory operand: base with displacement, and the scaled index, which is the stride of a tile.
struct Address {
    base: usize,
    index: isize,
    /// Bytes from ModRM on.
    length: usize,
}

impl Address {
    fn decode(code: &[u8], x: usize, b: usize, registers: &[i64; 23]) -> Option<Self> {
        let (mode, rm) = (code[0] >> 6, usize::from(code[0] & 7));
        let (base, index, start) = match rm {
            4 => {
                let sib = code[1];
                let index = x + usize::from(sib >> 3 & 7);
                let scaled = if index == 4 { 0 } else { general(registers, index) << (sib >> 6) };
                (b + usize::from(sib & 7), scaled, 2)
            }
            _ => (b + rm, 0, 1),
        };
        let (displacement, size) = match mode {
            0 if base & 7 == 5 => return None,
            0 => (0, 0),
            1 => (i64::from(code[start] as i8), 1),
            _ => (i64::from(i32::from_le_bytes(code[start..start + 4].try_into().ok()?)), 4),
        };
        let base = general(registers, base).wrapping_add(displacement) as usize;
        Some(Self { base, index: index as isize, length: start + size })
    }

    fn at(&self, offset: usize) -> usize {
        self.base.wrapping_add_signed(self.index) + offset
    }
}

/// A general register by its number in instructions.
fn general(registers: &[i64; 23], number: usize) -> i64 {
    use libc::{REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    use libc::{REG_RAX, REG_RBP, REG_RBX, REG_RCX, REG_RDI, REG_RDX, REG_RSI, REG_RSP};
    let names = [
        REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11,
        REG_R12, REG_R13, REG_R14, REG_R15,
    ];
    registers[names[number] as usize]
}

impl State {
    /// Performs an instruction; `None` if the processor would refuse it.
    fn perform(&mut self, instruction: Instruction) -> Option<()> {
        match instruction {
            Instruction::Configure { from } => self.configure(from)?,
            Instruction::Release => *self = Self { shapes: None, tiles: [[[0; 64]; 16]; 8] },
            Instruction::Zero { tile } => {
                self.shapes?;
                *self.tiles.get_mut(tile)? = [[0; 64]; 16];
            }
            Instruction::Load { tile, from, stride } => {
                let [bytes, rows] = *self.shapes?.get(tile)?;
                self.tiles[tile] = [[0; 64]; 16];
                for (row, to) in self.tiles[tile].iter_mut().take(rows).enumerate() {
                    let at = from.wrapping_add_signed(stride * row as isize) as *const u8;
                    // SAFETY: what the processor itself would read, for code that promises as much.
                    unsafe { std::ptr::copy_nonoverlapping(at, to.as_mut_ptr(), bytes) };
                }
            }
            Instruction::Store { tile, to, stride } => {
                let [bytes, rows] = *self.shapes?.get(tile)?;
                for (row, from) in self.tiles[tile].iter().take(rows).enumerate() {
                    let at = to.wrapping_add_signed(stride * row as isize) as *mut u8;
                    // SAFETY: as above.
                    unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), at, bytes) };
                }
            }
            Instruction::Multiply { sums, a, b } => self.multiply(sums, a, b)?,
        }
        Some(())
    }

    fn configure(&mut self, from: usize) -> Option<()> {
        // SAFETY: `ldtilecfg` reads 64 bytes.
        let bytes: [u8; 64] = unsafe { std::ptr::read_unaligned(from as *const [u8; 64]) };
        let shapes = std::array::from_fn(|i| {
            [usize::from(u16::from_le_bytes([bytes[16 + 2 * i], bytes[17 + 2 * i]])), usize::from(bytes[48 + i])]
        });
        let is_reserved_zero = bytes[2..16].iter().chain(&bytes[32..48]).chain(&bytes[56..]).all(|&byte| byte == 0);
        let is_sound = shapes.iter().all(|&[width, rows]| width <= 64 && rows <= 16 && (width == 0) == (rows == 0));
        if bytes[0] != 1 || bytes[1] != 0 || !is_reserved_zero || !is_sound {
            return None;
        }
        *self = Self { shapes: Some(shapes), tiles: [[[0; 64]; 16]; 8] };
        Some(())
    }

    /// `tdpbf16ps` in the words of Intel's manual: for each row m of `a`, temporary sums of the even and of the odd positions.
    fn multiply(&mut self, sums: usize, a: usize, b: usize) -> Option<()> {
        let shapes = self.shapes?;
        let ([width, rows], [a_width, a_rows], [b_width, b_rows]) =
            (*shapes.get(sums)?, *shapes.get(a)?, *shapes.get(b)?);
        if sums == a || sums == b || a == b || a_rows != rows || b_width != width || a_width / 4 != b_rows {
            return None;
        }
        let number = |bytes: &[u8; 64], i: usize| {
            flushed(f32::from_bits(u32::from(u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]])) << 16))
        };
        for m in 0..rows {
            for n in 0..width / 4 {
                let mut parts = [0f32; 2];
                for k in 0..a_width / 4 {
                    for (odd, part) in parts.iter_mut().enumerate() {
                        let factor = number(&self.tiles[a][m], 2 * k + odd);
                        *part = flushed(factor.mul_add(number(&self.tiles[b][k], 2 * n + odd), *part));
                    }
                }
                let at = &mut self.tiles[sums][m].as_chunks_mut::<4>().0[n];
                let sum = flushed(parts[0] + parts[1]);
                *at = flushed(flushed(f32::from_le_bytes(*at)) + sum).to_le_bytes();
            }
        }
        Some(())
    }
}

/// Subnormal numbers are zeros of the same sign.
fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

#[cfg(test)]
mod tests {
    use std::arch::asm;

    use super::*;

    /// A tile of shape 3 by 5 in a register of high number, memory with base, stride and displacement, and a product by hand.
    #[test]
    fn tiles_are_loaded_multiplied_and_stored_as_intel_says() {
        provide_amx();
        let mut configuration = [0u8; 64];
        configuration[0] = 1;
        for (tile, [width, rows]) in [[8, 2], [4, 2], [8, 1]].into_iter().enumerate() {
            configuration[16 + 2 * tile] = width;
            configuration[48 + tile] = rows;
        }
        // Two rows of one pair: (1, 2) and (3, 4); one row of two pairs: (5, 6) and (-7, 2⁻¹³³, which is subnormal).
        let a: [u32; 4] = [0x4000_3f80, u32::MAX, 0x4080_4040, u32::MAX];
        let b: [u32; 2] = [0x40c0_40a0, 0x0001_c0e0];
        let mut sums = [[100f32, 200.0], [300.0, 400.0], [-1.0, -1.0]];
        // SAFETY: the shapes are those of the arrays; rows of `a` and of `sums` are eight bytes apart.
        unsafe {
            asm!(
                "ldtilecfg [{configuration}]",
                "tileloadd tmm0, [{sums} + 4*{stride} - 8]",
                "tileloadd tmm1, [{a} + 4*{stride}]",
                "tileloadd tmm2, [{b}]",
                "tdpbf16ps tmm0, tmm1, tmm2",
                "tilestored [{sums} + 4*{stride} - 8], tmm0",
                "tilerelease",
                configuration = in(reg) &configuration,
                sums = in(reg) sums.as_mut_ptr().wrapping_add(1),
                a = in(reg) &a,
                b = in(reg) &b,
                stride = in(reg) 2usize,
                out("tmm0") _,
                out("tmm1") _,
                out("tmm2") _,
                options(nostack),
            );
        }
        let expected = [
            [100.0 + 1.0 * 5.0 + 2.0 * 6.0, 200.0 - 7.0],
            [300.0 + 3.0 * 5.0 + 4.0 * 6.0, 400.0 - 3.0 * 7.0],
            [-1.0, -1.0],
        ];
        assert_eq!(sums, expected);
    }
}
