//! Random numbers by purpose: the same on every machine and in every version.

use rand::SeedableRng;
pub(crate) use rand_chacha::ChaCha8Rng as Random;

/// Bytes of the generator's seed that the purpose fills.
const PURPOSE_BYTES: usize = 24;

/// The generator for a seed and a purpose; different purposes of one seed are independent.
pub(crate) fn random(seed: u64, purpose: &str) -> Random {
    let mut bytes = [0; 8 + PURPOSE_BYTES];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    for (i, byte) in purpose.bytes().enumerate() {
        bytes[8 + i % PURPOSE_BYTES] ^= byte;
    }
    Random::from_seed(bytes)
}

#[cfg(test)]
mod tests {
    use rand::RngCore;

    use super::*;

    #[test]
    fn a_seed_and_a_purpose_have_numbers_of_their_own() {
        assert_ne!(random(1, "a").next_u64(), random(1, "b").next_u64());
        assert_ne!(random(1, "a").next_u64(), random(2, "a").next_u64());
        assert_eq!(random(2, "a").next_u64(), random(2, "a").next_u64());
    }
}
