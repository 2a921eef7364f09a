//! Launch sizes, and sums over a cube.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// Maximum units per cube; every device supports as many.
pub(super) const UNITS: u32 = 256;
/// Maximum cubes per launch. Cubes stride over the tasks, so there may be fewer cubes than tasks.
const CUBES: u32 = 32_768;

/// Cubes for `tasks` tasks.
pub(super) fn over(tasks: u32) -> CubeCount {
    CubeCount::new_1d(tasks.clamp(1, CUBES))
}

/// Cubes of [`UNITS`] for `count` elements.
pub(super) fn over_numbers(count: usize) -> CubeCount {
    over(u32::try_from(count.div_ceil(UNITS as usize)).unwrap_or(CUBES))
}

/// Units for a row of n elements, a power of two.
pub(super) fn units_for(n: u32) -> u32 {
    n.next_power_of_two().clamp(32, UNITS)
}

/// The sum of all units' values, which every unit gets; all units of the cube must take part.
#[cube]
pub(super) fn sum_in_cube(value: f32, #[comptime] units: u32) -> f32 {
    let mut values = SharedMemory::<f32>::new(units as usize);
    values[UNIT_POS as usize] = value;
    sync_cube();
    let mut half = comptime!(units / 2).runtime();
    while half > 0 {
        if UNIT_POS < half {
            let other = values[(UNIT_POS + half) as usize];
            values[UNIT_POS as usize] += other;
        }
        sync_cube();
        half /= 2;
    }
    let sum = values[0];
    // Wait before the shared memory is reused.
    sync_cube();
    sum
}
