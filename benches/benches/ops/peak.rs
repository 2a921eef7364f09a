//! What the machine can do at most, as measured here and now.

use std::hint::black_box;
use std::time::Instant;

use pulp::Arch;
use rayon::prelude::*;

/// Fused multiply-adds and memory traffic on all threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peak {
    /// 10⁹ float32 additions and multiplications a second.
    pub(crate) gflops: f64,
    /// 10⁹ bytes a second, read and written.
    pub(crate) gbps: f64,
}

/// Takes about two seconds.
pub(crate) fn measure() -> Peak {
    let best = |measure: fn() -> f64| (0..5).map(|_| measure()).fold(0.0, f64::max);
    Peak { gflops: best(gflops), gbps: best(gbps) }
}

/// Independent chains: enough to hide the latency of two units, few enough for AVX-512's registers.
const CHAINS: usize = 12;
const LANES: usize = 16;
const ROUNDS: usize = 4_000_000;

fn gflops() -> f64 {
    let threads = rayon::current_num_threads();
    let begun = Instant::now();
    rayon::broadcast(|_| {
        let chains = Arch::new().dispatch(
            #[inline(always)]
            || {
                let (factor, term) = (black_box([0.999_f32; LANES]), black_box([0.001_f32; LANES]));
                let mut chains = [[1.0_f32; LANES]; CHAINS];
                for _ in 0..ROUNDS {
                    for chain in &mut chains {
                        for lane in 0..LANES {
                            chain[lane] = chain[lane].mul_add(factor[lane], term[lane]);
                        }
                    }
                }
                chains
            },
        );
        black_box(chains);
    });
    (2 * CHAINS * LANES * ROUNDS * threads) as f64 / begun.elapsed().as_secs_f64() / 1e9
}

/// `a = b + s·c` over more than any cache holds: two reads and a write each.
fn gbps() -> f64 {
    const LEN: usize = 32 << 20;
    const TASK: usize = 1 << 16;
    let (mut a, b, c) = (vec![0.0_f32; LEN], vec![1.0_f32; LEN], vec![2.0_f32; LEN]);
    let mut pass = |scale: f32| {
        let parts = a.par_chunks_mut(TASK).zip(b.par_chunks(TASK)).zip(c.par_chunks(TASK));
        parts.for_each(|((a, b), c)| {
            for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
                *a = b + scale * c;
            }
        });
    };
    pass(1.0);
    let begun = Instant::now();
    pass(2.0);
    let seconds = begun.elapsed().as_secs_f64();
    black_box(&a);
    (3 * 4 * LEN) as f64 / seconds / 1e9
}
