//! Ranks that are threads of one process, for unit tests.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::{Collective, CollectiveError, Pending, check_ranges, check_rank};

/// What a rank gives to one call.
#[derive(Debug)]
struct Parcel {
    call: &'static str,
    bytes: Vec<u8>,
    /// For each rank, its numbers.
    numbers: Vec<Vec<f32>>,
}

type Delivery = Arc<Vec<Parcel>>;

#[derive(Default)]
struct State {
    given: Vec<Option<Parcel>>,
    /// All ranks' parcels, and how many have not taken them.
    ready: Option<(Delivery, usize)>,
    ended: Option<CollectiveError>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, rank: usize, cause: &str) {
        let error = CollectiveError::Ended { rank, cause: cause.to_owned() };
        self.lock().ended.get_or_insert(error);
        self.changed.notify_all();
    }
}

/// One of the ranks that are threads of this process.
pub struct Threads {
    rank: usize,
    size: usize,
    shared: Arc<Shared>,
}

impl Threads {
    /// Runs `work` once for each of `size` ranks and returns what they returned, in the order of ranks. A rank that panics
    /// gives nothing, and the others' calls then fail with an error that names it.
    pub fn run<T: Send>(size: usize, work: impl Fn(&Self) -> T + Sync) -> Vec<Option<T>> {
        let state = State { given: (0..size).map(|_| None).collect(), ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let work = &work;
        thread::scope(|scope| {
            let ranks: Vec<_> = (0..size)
                .map(|rank| {
                    let world = Self { rank, size, shared: Arc::clone(&shared) };
                    scope.spawn(move || work(&world))
                })
                .collect();
            ranks.into_iter().map(|rank| rank.join().ok()).collect()
        })
    }

    fn exchange(&self, parcel: Parcel) -> Result<Delivery, CollectiveError> {
        let call = parcel.call;
        let mut state = self.shared.lock();
        while state.ready.is_some() {
            state = self.shared.wait(state);
        }
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        state.given[self.rank] = Some(parcel);
        if state.given.iter().all(Option::is_some) {
            let parcels = state.given.iter_mut().filter_map(Option::take).collect();
            state.ready = Some((Arc::new(parcels), self.size));
            self.shared.changed.notify_all();
        }
        let delivery = loop {
            if let Some((delivery, waiting)) = &mut state.ready {
                *waiting -= 1;
                let (delivery, last) = (Arc::clone(delivery), *waiting == 0);
                if last {
                    state.ready = None;
                    self.shared.changed.notify_all();
                }
                break delivery;
            }
            if let Some(error) = &state.ended {
                return Err(error.clone());
            }
            state = self.shared.wait(state);
        };
        drop(state);
        match delivery.iter().enumerate().find(|(_, other)| other.call != call) {
            Some((rank, other)) => Err(CollectiveError::Mismatch { rank, found: other.call, expected: call }),
            None => Ok(delivery),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.end(self.rank, if thread::panicking() { "it panicked" } else { "it returned" });
    }
}

impl Collective for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn local_rank(&self) -> usize {
        self.rank
    }

    fn local_size(&self) -> usize {
        self.size
    }

    fn start_gather(&self, bytes: Vec<u8>) -> Result<Pending, CollectiveError> {
        let delivery = self.exchange(Parcel { call: "start_gather", bytes, numbers: Vec::new() })?;
        Pending::arrived(delivery.iter().map(|parcel| parcel.bytes.clone()).collect())
    }

    fn broadcast(&self, bytes: &mut Vec<u8>, root: usize) -> Result<(), CollectiveError> {
        check_rank(root, self.size)?;
        let mine = if self.rank == root { bytes.clone() } else { Vec::new() };
        let delivery = self.exchange(Parcel { call: "broadcast", bytes: mine, numbers: Vec::new() })?;
        bytes.clone_from(&delivery[root].bytes);
        Ok(())
    }

    fn all_to_all(&self, numbers: &[f32], ranges: &[Range<usize>]) -> Result<Vec<Vec<f32>>, CollectiveError> {
        check_ranges(numbers.len(), ranges, self.size)?;
        let numbers = ranges.iter().map(|range| numbers[range.clone()].to_vec()).collect();
        let delivery = self.exchange(Parcel { call: "all_to_all", bytes: Vec::new(), numbers })?;
        Ok(delivery.iter().map(|parcel| parcel.numbers[self.rank].clone()).collect())
    }

    fn barrier(&self) -> Result<(), CollectiveError> {
        self.exchange(Parcel { call: "barrier", bytes: Vec::new(), numbers: Vec::new() }).map(drop)
    }

    fn abort(&self, cause: &str) -> ! {
        self.shared.end(self.rank, cause);
        panic!("rank {}: {cause}", self.rank)
    }
}
