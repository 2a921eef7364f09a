//! Vectorized exponentials and reductions, and the choice of an instruction set at run time.
//!
//! A kernel is plain loops over slices, `#[inline(always)]`, called inside [`dispatch`]; the compiler vectorizes it
//! once per instruction set. Reductions use `LANES` partial sums, because the compiler may not reorder floating-point
//! additions.

use pulp::{Arch, NullaryFnOnce};

/// Partial sums of a vectorized reduction: one AVX-512 register, two of AVX2, four of NEON.
pub(crate) const LANES: usize = 16;

/// Elements per task of an element-wise kernel; sums are split there whatever the number of threads.
pub(crate) const CHUNK: usize = 1 << 14;

/// Runs a kernel with the widest instructions of this machine; its body must be `#[inline(always)]`.
#[inline]
pub fn dispatch<F: FnOnce() -> R, R>(kernel: F) -> R {
    struct Kernel<F>(F);
    impl<F: FnOnce() -> R, R> NullaryFnOnce for Kernel<F> {
        type Output = R;

        #[inline(always)]
        fn call(self) -> R {
            (self.0)()
        }
    }
    Arch::new().dispatch(Kernel(kernel))
}

/// eˣ to within 2 units in the last place; zero below -87.3, e⁸⁸·³ from 88.3 on.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding 1.5 · 2²³ rounds to an integer, which ends up in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const SMALLEST: f32 = -87.3;
    const LARGEST: f32 = 88.3;
    let clamped = x.clamp(SMALLEST, LARGEST);
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
    // Minimax polynomial of (eʳ − 1 − r)/r² on ±ln 2 / 2, after Cephes.
    let p = 1.987_569_2e-4_f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let fraction = p.mul_add(r * r, r) + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x < SMALLEST { 0.0 } else { fraction * power }
}

/// tanh x to within 4 units in the last place.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    // Near zero 1 − 2/(e²ˣ + 1) would lose the digits of x, so a polynomial in x² is used there, after Cephes.
    const NEAR: f32 = 0.625;
    let square = x * x;
    let p = -5.704_988_7e-3_f32;
    let p = p.mul_add(square, 2.063_909e-2);
    let p = p.mul_add(square, -5.373_971_6e-2);
    let p = p.mul_add(square, 0.133_314_42);
    let p = p.mul_add(square, -0.333_332_8);
    let near = (p * square).mul_add(x, x);
    let far = 1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0);
    if x.abs() < NEAR { near } else { far.copysign(x) }
}

/// The largest element of a row; `f32::MIN` if it is empty.
#[inline(always)]
pub(crate) fn max(row: &[f32]) -> f32 {
    let mut lanes = [f32::MIN; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    lanes.into_iter().chain(rest.iter().copied()).fold(f32::MIN, |a, b| if b > a { b } else { a })
}

/// Sum of a row over [`LANES`] partial sums.
#[inline(always)]
pub(crate) fn sum(row: &[f32]) -> f32 {
    sum_map(row, |x| x)
}

/// Sum of `f(x)` over a row, over `LANES` partial sums.
#[inline(always)]
pub fn sum_map<T: Copy>(row: &[T], f: impl Fn(T) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x);
        }
    }
    fold(lanes) + rest.iter().fold(0.0, |sum, &x| sum + f(x))
}

/// Sum of `f(x, y)` over two rows of equal length, over `LANES` partial sums.
#[inline(always)]
pub fn sum_zip<T: Copy, U: Copy>(a: &[T], b: &[U], f: impl Fn(T, U) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (left, right) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = left.remainder().iter().zip(right.remainder());
    for (a, b) in left.zip(right) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(a).zip(b) {
            *lane += f(x, y);
        }
    }
    fold(lanes) + rest.fold(0.0, |sum, (&x, &y)| sum + f(x, y))
}

/// Adds the lanes pairwise, always in the same order.
#[inline(always)]
fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let xs: Vec<f32> = (-87_000..=88_000).map(|i| i as f32 * 1e-3 + 1.7e-4).collect();
        let found = dispatch(|| xs.iter().map(|&x| exp(x)).collect::<Vec<_>>());
        for (&x, &y) in xs.iter().zip(&found) {
            let expected = f64::from(x).exp();
            assert!((f64::from(y) - expected).abs() <= 2.0 * f64::from(f32::EPSILON) * expected, "exp({x}) = {y}");
        }
    }

    #[test]
    fn tanh_is_within_four_units_in_the_last_place() {
        let xs: Vec<f32> = (-20_000..=20_000).map(|i| i as f32 * 1e-3 + 1.7e-5).collect();
        let found = dispatch(|| xs.iter().map(|&x| tanh(x)).collect::<Vec<_>>());
        for (&x, &y) in xs.iter().zip(&found) {
            let expected = f64::from(x).tanh();
            assert!(
                (f64::from(y) - expected).abs() <= 4.0 * f64::from(f32::EPSILON) * expected.abs(),
                "tanh({x}) = {y}"
            );
        }
        assert_eq!([tanh(0.0), tanh(1e6), tanh(-1e6)], [0.0, 1.0, -1.0]);
    }

    #[test]
    fn exp_of_masked_scores_is_zero_and_never_infinite() {
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-3.0e4), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(1.0e6).is_finite());
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn reductions_take_every_element_once() {
        let row: Vec<f32> = (1..=37).map(|i| i as f32).collect();
        assert_eq!(sum(&row), 37.0 * 38.0 / 2.0);
        assert_eq!(sum_zip(&row, &row, |a, b| a - b), 0.0);
        assert_eq!(sum_map(&row, |x| x * x), 37.0 * 38.0 * 75.0 / 6.0);
        assert_eq!(max(&row), 37.0);
        assert_eq!(max(&[-3.0, -2.0]), -2.0);
    }
}
