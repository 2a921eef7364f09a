//! Ranks as threads.

use collimate_collective::{Collective, CollectiveError, Solo, Threads, agree, reduce_scatter};

#[test]
fn every_rank_gets_the_bytes_of_all_in_their_order() {
    for size in 1..=4 {
        let expected: Vec<Vec<u8>> = (0..size).map(|rank| vec![rank as u8; rank]).collect();
        let all = Threads::run(size, |world| world.all_gather(&expected[world.rank()]).unwrap());
        assert!(all.iter().all(|bytes| bytes.as_ref() == Some(&expected)), "{all:?}");
    }
}

#[test]
fn sums_are_made_in_the_order_of_ranks() {
    // (1e8 − 1e8) + 1 is 1; in another order it is 0.
    let sums = Threads::run(3, |world| {
        let mine = [1e8, -1e8, 1.0][world.rank()];
        reduce_scatter(world, &[mine; 5], &[0..2, 2..2, 2..5]).unwrap()
    });
    assert_eq!(sums, [Some(vec![1.0; 2]), Some(vec![]), Some(vec![1.0; 3])]);
}

#[test]
fn all_ranks_fail_as_the_first_that_failed() {
    let all = Threads::run(4, |world| {
        let mine = if world.rank() % 2 == 1 { Err(format!("fault {}", world.rank())) } else { Ok(7) };
        agree(world, mine).unwrap_err().to_string()
    });
    assert!(all.iter().all(|message| message.as_deref() == Some("rank 1: fault 1")), "{all:?}");
    assert_eq!(agree(&Solo, Ok::<_, String>(7)), Ok(7));
}

#[test]
fn a_rank_that_panics_or_returns_is_named_to_the_others() {
    let all = Threads::run(3, |world| {
        assert_ne!(world.rank(), 2, "on purpose");
        world.barrier()
    });
    let ended = |cause: &str| Err(CollectiveError::Ended { rank: 2, cause: cause.to_owned() });
    assert_eq!(all, [Some(ended("it panicked")), Some(ended("it panicked")), None]);
    let early = Threads::run(3, |world| if world.rank() == 2 { Ok(()) } else { world.barrier() });
    assert_eq!(early, [Some(ended("it returned")), Some(ended("it returned")), Some(Ok(()))]);
}

#[test]
fn different_calls_and_ranges_that_do_not_fit_are_errors() {
    let all =
        Threads::run(2, |world| if world.rank() == 0 { world.barrier() } else { world.broadcast(&mut vec![1], 1) });
    let mismatch = CollectiveError::Mismatch { rank: 1, found: "broadcast", expected: "barrier" };
    assert_eq!(all[0], Some(Err(mismatch)));
    let outside = CollectiveError::Outside { start: 1, end: 4, length: 3 };
    assert_eq!(Solo.all_to_all(&[0.0; 3], std::slice::from_ref(&(1..4))), Err(outside));
    assert_eq!(Solo.all_to_all(&[0.0; 3], &[]), Err(CollectiveError::Ranges { ranges: 0, size: 1 }));
}
