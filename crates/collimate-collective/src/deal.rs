//! Deals out work to ranks.

/// The rank of each item, given its work: the largest first, each to the rank that has least so far. Every rank that knows the
/// same numbers deals the same way.
pub fn deal(work: &[usize], ranks: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..work.len()).collect();
    // Stable, so that items of equal work keep their order.
    order.sort_by_key(|&item| std::cmp::Reverse(work[item]));
    let mut held = vec![0_usize; ranks.max(1)];
    let mut owners = vec![0; work.len()];
    for item in order {
        let least = (0..held.len()).min_by_key(|&rank| held[rank]).unwrap_or(0);
        owners[item] = least;
        // An item without work is one item all the same.
        held[least] = held[least].saturating_add(work[item].max(1));
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_goes_first_and_to_whom_has_least() {
        // 9 to rank 0; 7 to rank 1; 4 to rank 1, which has 7 < 9; 3 to rank 0.
        assert_eq!(deal(&[4, 9, 3, 7], 2), [1, 0, 0, 1]);
        assert_eq!(deal(&[5, 5, 5, 5], 4), [0, 1, 2, 3]);
        assert_eq!(deal(&[0, 0, 0], 2), [0, 1, 0]);
        assert_eq!(deal(&[8, 1], 1), [0, 0]);
        assert!(deal(&[], 3).is_empty());
    }

    #[test]
    fn no_rank_has_more_than_the_mean_and_one_item() {
        let work: Vec<usize> = (0..64).map(|i| 20 + i * i % 97 * 5).collect();
        for ranks in [2, 3, 8] {
            let owners = deal(&work, ranks);
            let of = |rank: usize| work.iter().zip(&owners).filter(|(_, owner)| **owner == rank).map(|(w, _)| w).sum();
            let most: usize = (0..ranks).map(of).max().unwrap();
            let bound = work.iter().sum::<usize>().div_ceil(ranks) + work.iter().max().unwrap();
            assert!(most <= bound, "{most} of at most {bound} for {ranks}");
        }
    }
}
