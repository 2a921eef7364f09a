//! The machine's peak performance, measured now.

use std::hint::black_box;
use std::time::Instant;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Throughput of fused multiply-adds and of memory, on all threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peak {
    /// 10⁹ float32 additions and multiplications a second.
    pub(crate) gflops: f64,
    /// 10⁹ bytes a second, read and written.
    pub(crate) gbps: f64,
}

/// Measures for about two seconds.
pub(crate) fn measure() -> Peak {
    let best = |measure: fn() -> f64| (0..3).map(|_| measure()).fold(0.0, f64::max);
    Peak { gflops: best(gflops), gbps: best(gbps) }
}

/// Independent chains: enough to hide the latency of two units, few enough for AVX-512's registers.
const CHAINS: usize = 12;
const ROUNDS: usize = 20_000_000;

fn gflops() -> f64 {
    let begun = Instant::now();
    let lanes: usize = rayon::broadcast(|_| Arch::new().dispatch(Chains)).into_iter().sum();
    (2 * CHAINS * ROUNDS * lanes) as f64 / begun.elapsed().as_secs_f64() / 1e9
}

/// Multiplies and adds repeatedly in registers; returns the number of lanes in a register.
struct Chains;

impl WithSimd for Chains {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        let (factor, term) = (simd.splat_f32s(black_box(0.999)), simd.splat_f32s(black_box(0.001)));
        let mut chains = [simd.splat_f32s(1.0); CHAINS];
        for _ in 0..ROUNDS {
            for chain in &mut chains {
                *chain = simd.mul_add_f32s(*chain, factor, term);
            }
        }
        black_box(chains.map(|chain| simd.reduce_sum_f32s(chain)));
        S::F32_LANES
    }
}

/// `a += s·b` over arrays larger than any cache: two reads and a write per number; the best of several passes.
fn gbps() -> f64 {
    const LEN: usize = 32 << 20;
    const TASK: usize = 1 << 15;
    let (mut a, b) = (vec![1.0_f32; LEN], vec![2.0_f32; LEN]);
    let mut pass = |scale: f32| {
        let begun = Instant::now();
        a.par_chunks_mut(TASK).zip(b.par_chunks(TASK)).for_each(|(a, b)| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += scale * b);
        });
        begun.elapsed().as_secs_f64()
    };
    let seconds = (0..6).map(|i| pass(i as f32)).fold(f64::INFINITY, f64::min);
    black_box(&a);
    (3 * 4 * LEN) as f64 / seconds / 1e9
}
