//! The 256 codes that double quantization stores scales in: bitsandbytes' dynamic map, and its choice of a code.

use std::sync::{Arc, LazyLock};

/// Bits of the exponent, as `create_dynamic_map(signed=True, max_exponent_bits=7, total_bits=8)` has them.
const EXPONENTS: i32 = 7;
/// Steps of −1…1 in which bitsandbytes looks codes up.
const STEPS: usize = 65_536;

/// The map: for each exponent, twice as many fractions as for the one below, of both signs; and 0 and 1.
pub(crate) fn dynamic_map() -> Arc<[f32; 256]> {
    static MAP: LazyLock<Arc<[f32; 256]>> = LazyLock::new(|| Arc::new(computed_map()));
    Arc::clone(&MAP)
}

fn computed_map() -> [f32; 256] {
    let mut values = vec![0.0, 1.0];
    for exponent in 0..EXPONENTS {
        let fractions = 1usize << exponent;
        let power = 10f64.powi(exponent + 1 - EXPONENTS) as f32;
        for i in 0..fractions {
            let mean = (fraction(i, fractions) + fraction(i + 1, fractions)) / 2.0;
            values.extend([power * mean, -power * mean]);
        }
    }
    values.sort_by(f32::total_cmp);
    std::array::from_fn(|i| values[i])
}

/// `torch.linspace(0.1, 1, fractions + 1)[i]` in float32: from the nearer end.
fn fraction(i: usize, fractions: usize) -> f32 {
    let step = (1.0 - 0.1f32) / fractions as f32;
    if i < fractions.div_ceil(2) { step.mul_add(i as f32, 0.1) } else { (-step).mul_add((fractions - i) as f32, 1.0) }
}

/// The code that bitsandbytes 0.50 stores for a number within −1…1: of the nearest of [`STEPS`] steps, not of the number.
pub(crate) fn nearest_code(value: f32) -> u8 {
    static CODES: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let map = dynamic_map();
        (0..STEPS).map(|step| code_of(&map, step as f32 / (STEPS - 1) as f32 * 2.0 - 1.0)).collect()
    });
    let step = (value.clamp(-1.0, 1.0) + 1.0) * 0.5 * (STEPS - 1) as f32 + 0.5;
    CODES[(step as usize).min(STEPS - 1)]
}

/// The nearer of the codes around a number, the lower one at a midpoint.
fn code_of(map: &[f32; 256], value: f32) -> u8 {
    let right = map.partition_point(|&code| code < value).min(map.len() - 1);
    let left = right.saturating_sub(1);
    let nearer = if (map[right] - value).abs() < (value - map[left]).abs() { right } else { left };
    nearer as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_ascends_from_below_minus_99_hundredths_to_one() {
        let map = dynamic_map();
        assert!(map.windows(2).all(|pair| pair[0] < pair[1]), "{map:?}");
        assert_eq!((map[0], map[127], map[255]), (-0.992_968_74, 0.0, 1.0));
    }

    #[test]
    fn every_code_is_the_nearest_to_its_own_number_within_a_step() {
        let map = dynamic_map();
        for (code, &value) in map.iter().enumerate() {
            let found = map[usize::from(nearest_code(value))];
            assert!((found - value).abs() <= 2.0 / STEPS as f32, "code {code}: {value} became {found}");
        }
    }
}
