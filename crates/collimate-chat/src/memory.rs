//! How limits on text follow the memory there is.

/// Memory that the limits are made for. With less they stay, and with more they grow.
const MEMORY_BYTES: u64 = 1 << 30;
/// How far they grow: beyond it nothing else is made for such texts.
const MOST_TIMES: u64 = 16;

/// A limit in bytes where `memory` bytes may be used: as it is up to 1 GiB, and in proportion up to 16 GiB.
pub fn with_memory(limit: usize, memory: u64) -> usize {
    let memory = memory.clamp(MEMORY_BYTES, MOST_TIMES * MEMORY_BYTES);
    usize::try_from(limit as u128 * u128::from(memory) / u128::from(MEMORY_BYTES)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_grows_in_proportion_between_two_bounds() {
        let limits = [1, 1 << 30, 3 << 29, 4 << 30, 16 << 30, u64::MAX].map(|memory| with_memory(4 << 20, memory));
        assert_eq!(limits, [4, 4, 6, 16, 64, 64].map(|mebibytes| mebibytes << 20));
    }
}
