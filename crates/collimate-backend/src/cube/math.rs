//! Exponentials of known precision: those of drivers are accurate to a few units in the last place at best, and graphics
//! APIs allow worse.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// eˣ to within 2 units in the last place; zero below -87.3, e⁸⁸·³ from 88.3 on.
#[cube]
pub(super) fn exp(x: f32) -> f32 {
    let clamped = clamp(x, -87.3, 88.3);
    let n = (clamped * std::f32::consts::LOG2_E).round();
    // ln 2 in two parts, so that the remainder keeps its digits.
    let r = fma(n, 2.121_944_4e-4, fma(n, -0.693_359_4, clamped));
    // Minimax polynomial of (eʳ − 1 − r)/r² on ±ln 2 / 2, after Cephes.
    let p = fma(1.987_569_2e-4, r, 1.398_199_9e-3);
    let p = fma(p, r, 8.333_452e-3);
    let p = fma(p, r, 4.166_579_6e-2);
    let p = fma(p, r, 1.666_666_5e-1);
    let p = fma(p, r, 0.5f32);
    let fraction = fma(p, r * r, r) + 1.0;
    let power = f32::reinterpret(u32::cast_from(i32::cast_from(n) + 127) << 23);
    select(x < -87.3, 0.0, fraction * power)
}

/// tanh x to within 4 units in the last place.
#[cube]
pub(super) fn tanh(x: f32) -> f32 {
    // Near zero 1 − 2/(e²ˣ + 1) would lose the digits of x, so a polynomial in x² is used there, after Cephes.
    let square = x * x;
    let p = fma(-5.704_988_7e-3, square, 2.063_909e-2);
    let p = fma(p, square, -5.373_971_6e-2);
    let p = fma(p, square, 0.133_314_42f32);
    let p = fma(p, square, -0.333_332_8f32);
    let near = fma(p * square, x, x);
    let far = 1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0);
    let far = select(x < 0.0, -far, far);
    select(x.abs() < 0.625, near, far)
}

/// Φ(x) by a Chebyshev fit of ln(erfc(z)/t) + z² in t = 1/(1 + z/2), whose relative error is 1.2e-7.
#[cube]
pub(super) fn normal_cdf(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * z);
    let p = fma(0.170_872_77, t, -0.822_152_23f32);
    let p = fma(p, t, 1.488_515_9f32);
    let p = fma(p, t, -1.135_204f32);
    let p = fma(p, t, 0.278_868_07f32);
    let p = fma(p, t, -0.186_288_06f32);
    let p = fma(p, t, 0.096_784_18f32);
    let p = fma(p, t, 0.374_091_96f32);
    let p = fma(p, t, 1.000_023_7f32);
    let p = fma(p, t, -1.265_512_2f32);
    let tail = 0.5 * t * exp(p - z * z);
    select(x > 0.0, 1.0 - tail, tail)
}
