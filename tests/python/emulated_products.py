#!/usr/bin/env python3
"""Runs the AVX-512 kernel of bfloat16 products on an emulated Sapphire Rapids and compares every bit with Intel's arithmetic.

    python -m venv VENV && VENV/bin/pip install bochscpu-python==0.4.0 numpy
    VENV/bin/python tests/python/emulated_products.py

For machines without `vdpbf16ps`: compiles crates/collimate-kernels/src/gemm/bfloat16/avx512.rs as it is, without the standard
library, maps it into the memory of Bochs, an emulator of processors without an operating system, and calls it with
packed tiles. Expected sums are computed here in the order that Intel documents. Prints a line for each case; the exit code is
1 if anything differs. Needs: rustc, cc, Linux on x86-64. (AMX, which Bochs does not have in this package, is emulated by the
crate's own tests.)
"""

import ctypes
import platform
import struct
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

KERNEL = Path(__file__).resolve().parents[2] / "crates/collimate-kernels/src/gemm/bfloat16"

# The package always makes a Cannon Lake, which has no bfloat16: that function is replaced by the one that makes a Sapphire
# Rapids. The others are in glibc from 2.38 on, and the package needs them.
SHIM = """
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
void *(*sapphire_rapids)(void *);
void *_Z23create_corei3_cnl_cpuidP8BX_CPU_C(void *cpu) { return sapphire_rapids(cpu); }
unsigned long long __isoc23_strtoull(const char *s, char **end, int base) { return strtoull(s, end, base); }
int __isoc23_sscanf(const char *s, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int count = vsscanf(s, format, arguments);
    va_end(arguments);
    return count;
}
"""

# What is called: the kernel with its slices made of addresses.
PROGRAM = """
#![no_std]
#![no_main]
#[path = "{kernel}/avx512.rs"]
mod avx512;
#[path = "{kernel}/tile.rs"]
mod tile;
use core::slice::from_raw_parts;
use tile::{{Panels, Rows, Sums, Tile}};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {{
    loop {{
        unsafe {{ core::arch::asm!("ud2") }}
    }}
}}

// Named by the core library, and never called.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {{}}

#[unsafe(no_mangle)]
unsafe extern "C" fn start(starts: *const [*const Tile; 2], count: usize, depth: usize, rows: usize, sums: *mut Sums) {{
    let starts = unsafe {{ from_raw_parts(starts, count) }};
    let panels = |[a, b]: [*const Tile; 2]| unsafe {{
        Panels {{ a: Rows::of_tiles(from_raw_parts(a, depth)), b: from_raw_parts(b, depth) }}
    }};
    unsafe {{
        match *starts {{
            [one] => avx512::sum(&[panels(one)], rows, &mut *sums),
            [one, two, three] => avx512::sum(&[panels(one), panels(two), panels(three)], rows, &mut *sums),
            _ => panic!(),
        }}
    }}
}}
"""

PAGE = 4096
DATA, STACK, HALT = 0x1000_0000, 0x2000_0000, 0x3000_0000
INVALID_OPCODE = 6


def compile_kernel(folder: Path) -> tuple[int, bytes, int]:
    """Where the program lies in memory, what is there, and where it starts."""
    source, program = folder / "program.rs", folder / "program"
    source.write_text(PROGRAM.format(kernel=KERNEL))
    link = "-nostdlib -nostartfiles -static -no-pie -Wl,-estart"
    options = ["-O", "-Cpanic=abort", "-Crelocation-model=static", f"-Clink-args={link}", "-Adead_code"]
    subprocess.run(["rustc", "--edition=2024", *options, "-o", program, source], check=True)
    elf = program.read_bytes()
    entry, headers = struct.unpack_from("<QQ", elf, 24)
    size, count = struct.unpack_from("<HH", elf, 54)
    headers = [struct.unpack_from("<IIQQQQQ", elf, headers + i * size) for i in range(count)]
    loaded = [header for header in headers if header[0] == 1]
    base = min(address for _, _, _, address, *_ in loaded) // PAGE * PAGE
    memory = bytearray(max(address + length for _, _, _, address, _, _, length in loaded) - base)
    for _, _, offset, address, _, stored, _ in loaded:
        memory[address - base : address - base + stored] = elf[offset : offset + stored]
    return base, bytes(memory), entry


def load_emulator(folder: Path):
    """Bochs with a Sapphire Rapids."""
    (folder / "shim.c").write_text(SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "shim.so", folder / "shim.c"], check=True)
    shim = ctypes.CDLL(str(folder / "shim.so"), ctypes.RTLD_GLOBAL)
    import bochscpu.cpu
    import bochscpu.memory
    from bochscpu import _bochscpu

    model = ctypes.CDLL(_bochscpu.__file__)._Z28create_sapphire_rapids_cpuidP8BX_CPU_C
    ctypes.c_void_p.in_dll(shim, "sapphire_rapids").value = ctypes.cast(model, ctypes.c_void_p).value
    return bochscpu


class Machine:
    """Memory with the code, and a processor that calls it."""

    def __init__(self, bochscpu, base: int, code: bytes, entry: int, data_size: int):
        self.bochscpu, self.entry = bochscpu, entry
        self.session = bochscpu.Session()
        self.session.missing_page_handler = self.missing
        self.tables = bochscpu.memory.PageMapLevel4Table()
        self.physical, self.next = {}, 0x1400_0000
        for start, size in ((base, len(code)), (DATA, data_size), (STACK, 16 * PAGE), (HALT, PAGE)):
            for address in range(start, start + size, PAGE):
                self.map(address)
        for host, physical in self.tables.commit(0x10_0000):
            bochscpu.memory.page_insert(physical, host)
        self.write(base, code)
        self.write(HALT, b"\xf4")
        self.write(STACK + 8 * PAGE - 8, struct.pack("<Q", HALT))

    @staticmethod
    def missing(address: int):
        raise RuntimeError(f"the kernel reached for {address:#x}")

    def map(self, address: int):
        self.bochscpu.memory.page_insert(self.next, self.bochscpu.memory.allocate_host_page())
        self.tables.insert(address, self.next, 1)
        self.physical[address] = self.next
        self.next += PAGE

    def write(self, address: int, data: bytes):
        assert address % PAGE + len(data) <= PAGE or address % PAGE == 0
        for offset in range(0, len(data), PAGE):
            physical = self.physical[(address + offset) // PAGE * PAGE] + (address + offset) % PAGE
            self.bochscpu.memory.phy_write(physical, list(data[offset : offset + PAGE]))

    def read(self, address: int, size: int) -> bytes:
        pages = range(address, address + size, PAGE)
        return b"".join(bytes(self.bochscpu.memory.phy_read(self.physical[page], PAGE)) for page in pages)[:size]

    def call(self, arguments: list[int]):
        """Calls the kernel, which must come back."""
        state, segment = self.bochscpu.State(), self.bochscpu.Segment
        self.bochscpu.cpu.set_long_mode(state)
        # SSE, its exceptions and XSAVE; the state of x87, SSE, AVX and AVX-512.
        state.cr4 |= 1 << 9 | 1 << 10 | 1 << 18
        state.xcr0 = 0xE7
        state.cr3, state.mxcsr = 0x10_0000, 0x1F80
        state.rip, state.rsp = self.entry, STACK + 8 * PAGE - 8
        state.rdi, state.rsi, state.rdx, state.rcx, state.r8 = arguments
        code, data = segment(), segment()
        for part, selector, attributes in ((code, 0x33, 0x22FB), (data, 0x2B, 0xCF3)):
            part.present, part.selector, part.base, part.limit, part.attr = True, selector, 0, 0xFFFF_FFFF, attributes
        state.cs = code
        state.ds = state.ss = state.es = state.fs = state.gs = data
        self.session.cpu.state = state
        faults = []
        hook = self.bochscpu.Hook()
        hook.exception = lambda session, _cpu, vector, _code: (faults.append(vector), session.stop())
        self.session.run([hook])
        # The kernel returns to `hlt`, which user code may not execute.
        if self.session.cpu.state.rip not in (HALT, HALT + 1):
            what = "an instruction that it does not have" if INVALID_OPCODE in faults else f"exceptions {faults}"
            raise RuntimeError(f"the processor stopped at {self.session.cpu.state.rip:#x}: {what}")


def flushed(x: np.ndarray) -> np.ndarray:
    """Subnormal numbers are zeros of the same sign."""
    return np.where(np.abs(x) < np.float32(2.0**-126), np.copysign(np.float32(0), x), x).astype(np.float32)


def bfloat16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def expected_sums(panels: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Sums of a [32, K] · bᵀ [32, K], the odd position of a pair first; each product is added exactly, then rounded once.

    In float64 the sums before rounding are exact for the numbers that are used here: 24 and 16 bits not far apart.
    """
    sums = np.zeros((32, 32), np.float32)
    for a, b in panels:
        a, b = flushed(bfloat16(a)).astype(np.float64), flushed(bfloat16(b)).astype(np.float64)
        for pair in range(0, a.shape[1], 2):
            for k in (pair + 1, pair):
                sums = flushed((sums.astype(np.float64) + np.outer(a[:, k], b[:, k])).astype(np.float32))
    return sums


def tiles(factor: np.ndarray, by_pair: bool) -> bytes:
    """The tiles of a factor [32 lanes, K] of bits. Each half has 16 lanes: [lane][pair], or [pair][lane]."""
    pairs = np.ascontiguousarray(factor).view(np.uint32)
    halves = [pairs[i : i + 16, k : k + 16] for k in range(0, pairs.shape[1], 16) for i in (0, 16)]
    return b"".join(np.ascontiguousarray(half.T if by_pair else half).tobytes() for half in halves)


def numbers(generator, shape) -> np.ndarray:
    """Numbers from 2⁻⁸ to 1 of either sign, as bits of bfloat16."""
    exact = generator.choice([-1, 1], shape) * generator.uniform(0.5, 1, shape) * 2.0 ** generator.integers(-7, 1, shape)
    return ((exact.astype(np.float32).view(np.uint32) + 0x8000) >> 16).astype(np.uint16)


def special(generator, shape) -> np.ndarray:
    """Numbers with zeros, infinities, NaN, subnormal and very small ones among them."""
    bits = numbers(generator, shape)
    values = np.array([0, 0x8000, 0x7F80, 0xFF80, 0x7FC0, 1, 0x807F, 0x0080, 0x2000, 0x7F7F], np.uint16)
    chosen = generator.random(shape) < 0.01
    bits[chosen] = generator.choice(values, chosen.sum())
    return bits


def small(generator, shape) -> np.ndarray:
    """Numbers whose products are about as small as the smallest normal one."""
    bits = numbers(generator, shape)
    return bits & 0x8000 | ((bits & 0x7FFF).astype(np.int32) - (61 << 7)).clip(0).astype(np.uint16)


def run_case(machine: Machine, name: str, make, count: int, depth: int, rows: int, seed: int) -> bool:
    generator = np.random.default_rng(seed)
    factors = [(make(generator, (32, 32 * depth)), make(generator, (32, 32 * depth))) for _ in range(count)]
    sums_at, next_at = DATA + PAGE, DATA + 2 * PAGE
    starts = []
    for a, b in factors:
        for panel in (tiles(a, False), tiles(b, True)):
            machine.write(next_at, panel)
            starts.append(next_at)
            next_at += -(-len(panel) // PAGE) * PAGE
    sentinel = np.full((32, 32), 12345, np.float32)
    machine.write(DATA, struct.pack(f"<{len(starts)}Q", *starts))
    machine.write(sums_at, sentinel.tobytes())
    machine.call([DATA, count, depth, rows, sums_at])
    found = np.frombuffer(machine.read(sums_at, 4096), np.float32).reshape(32, 32)
    written = -(-rows // 8) * 8
    with np.errstate(invalid="ignore", over="ignore"):
        expected = np.concatenate([expected_sums(factors)[:written], sentinel[written:]])
    same = (found.view(np.uint32) == expected.view(np.uint32)) | np.isnan(found) & np.isnan(expected)
    told = f"{name}: {count} x {depth} tiles, {rows} rows: {same.sum()} of {same.size} numbers have the same bits"
    print(f"{told}; {np.isnan(found).sum()} are NaN, {(found == 0).sum()} zero")
    return bool(same.all())


def main() -> int:
    if platform.machine() != "x86_64" or find_spec("bochscpu") is None:
        print("error: needs Linux on x86-64 and the package bochscpu-python 0.4.0", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        program = compile_kernel(Path(folder))
        machine = Machine(load_emulator(Path(folder)), *program, (2 + 2 * 10 + 1) * PAGE)
        cases = [(numbers, 1, 1, 32), (numbers, 1, 20, 32), (numbers, 3, 3, 32), (numbers, 1, 2, 1), (numbers, 1, 2, 17)]
        cases += [(special, 1, 4, 32), (special, 3, 2, 9), (small, 1, 4, 32), (small, 3, 1, 32)]
        passed = [run_case(machine, make.__name__, make, *case, seed) for seed, (make, *case) in enumerate(cases)]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
