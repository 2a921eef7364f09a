//! Orders of groups.

use rand::SeedableRng;
use rand::seq::SliceRandom;

/// The order in which an epoch visits the groups. Depends on seed and epoch alone.
pub fn epoch_order(num_groups: usize, shuffle: bool, seed: u64, epoch: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..num_groups as u32).collect();
    if shuffle {
        let mut key = blake3::Hasher::new();
        key.update(b"shuffle").update(&seed.to_le_bytes()).update(&(epoch as u64).to_le_bytes());
        order.shuffle(&mut rand_chacha::ChaCha8Rng::from_seed(*key.finalize().as_bytes()));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_visits_every_group_once_in_an_order_of_its_own() {
        let first = epoch_order(50, true, 42, 0);
        assert_eq!(first, epoch_order(50, true, 42, 0));
        assert_ne!(first, epoch_order(50, true, 42, 1));
        assert_ne!(first, epoch_order(50, true, 43, 0));
        let mut sorted = first;
        sorted.sort_unstable();
        assert_eq!(sorted, epoch_order(50, false, 42, 0));
    }
}
