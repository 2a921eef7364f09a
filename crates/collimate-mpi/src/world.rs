//! Ranks that are processes, by MPI.

use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use mpi::datatype::{Partition, PartitionMut};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Equivalence, Root};
use mpi::{Count, Threading};

use collimate_collective::support::{
    Peers, Watch, check_ranges, check_rank, describe_own, end_all, has_joined, wait_for,
};
use collimate_collective::{Collective, CollectiveError, Pending, Place};

/// The most elements of one message, over all ranks: MPI counts in i32.
const MOST: usize = 1 << 28;

type Answer<T> = Sender<Result<T, CollectiveError>>;

enum Request {
    Gather(Vec<u8>, Answer<Vec<Vec<u8>>>),
    Broadcast(Vec<u8>, usize, Answer<Vec<u8>>),
    AllToAll(Vec<Vec<f32>>, Answer<Vec<Vec<f32>>>),
    Barrier(Answer<()>),
}

/// This process among those that `mpirun` or `srun` started.
///
/// One thread makes every call of MPI, in the order in which they were asked for; so a gather that was started goes on
/// while the caller computes. Whoever waits looks now and then whether the other ranks of the machine are still there.
pub struct Mpi {
    rank: usize,
    size: usize,
    local_rank: usize,
    local_size: usize,
    requests: Option<Mutex<Sender<Request>>>,
    thread: Option<JoinHandle<()>>,
    watch: Watch,
}

/// Rank, size, both on this machine, and who is there.
struct World {
    rank: usize,
    size: usize,
    local_rank: usize,
    local_size: usize,
    peers: Peers,
}

/// Joins the processes that a launcher started with this one.
///
/// # Errors
/// As [`Mpi::start`].
pub fn join(place: Place) -> Result<Arc<dyn Collective>, CollectiveError> {
    Ok(Arc::new(Mpi::start(place)?))
}

impl Mpi {
    /// Starts MPI and joins the other ranks.
    ///
    /// # Errors
    ///
    /// If MPI does not start, or sees other ranks than the launcher started.
    pub fn start(place: Place) -> Result<Self, CollectiveError> {
        Self::start_with(place, MOST)
    }

    /// As [`Mpi::start`], with messages of at most `most` elements over all ranks.
    ///
    /// # Errors
    ///
    /// As [`Mpi::start`].
    pub fn start_with(place: Place, most: usize) -> Result<Self, CollectiveError> {
        let (requests, received) = channel();
        let (report, reported) = channel();
        let thread = thread::Builder::new()
            .name("mpi".to_owned())
            .spawn(move || serve(most, &report, &received))
            .map_err(|error| CollectiveError::NotStarted(error.to_string()))?;
        let world = reported.recv().unwrap_or(Err(CollectiveError::Closed))?;
        if (world.rank, world.size) != (place.rank, place.size) {
            return Err(CollectiveError::OtherWorld {
                launcher: place.launcher,
                rank: place.rank,
                size: place.size,
                mpi_rank: world.rank,
                mpi_size: world.size,
            });
        }
        has_joined(world.rank);
        let World { rank, size, local_rank, local_size, peers } = world;
        let watch: Watch = Arc::new(move || {
            if let Some(gone) = peers.first_gone() {
                end_all(rank, &format!("rank {gone} has ended"));
            }
        });
        let (requests, thread) = (Some(Mutex::new(requests)), Some(thread));
        Ok(Self { rank, size, local_rank, local_size, requests, thread, watch })
    }

    fn ask<T>(
        &self,
        request: impl FnOnce(Answer<T>) -> Request,
    ) -> Result<Receiver<Result<T, CollectiveError>>, CollectiveError> {
        let (answer, answered) = channel();
        let requests = self.requests.as_ref().ok_or(CollectiveError::Closed)?;
        let requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.send(request(answer)).map_err(|_| CollectiveError::Closed)?;
        Ok(answered)
    }

    fn wait<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, CollectiveError> {
        wait_for(&self.ask(request)?, Some(&self.watch))
    }
}

impl Drop for Mpi {
    /// Leaves the world; waits until the other ranks do.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(most: usize, report: &Sender<Result<World, CollectiveError>>, requests: &Receiver<Request>) {
    let Some((universe, threading)) = mpi::initialize_with_threading(Threading::Funneled) else {
        let _ = report.send(Err(CollectiveError::NotStarted("it was started before".to_owned())));
        return;
    };
    if threading < Threading::Funneled {
        let message = "it was built without support of threads".to_owned();
        let _ = report.send(Err(CollectiveError::NotStarted(message)));
        return;
    }
    let world = universe.world();
    let local = world.split_shared(world.rank());
    let (rank, size) = (unsigned(world.rank()), unsigned(world.size()));
    let (local_rank, local_size) = (unsigned(local.rank()), unsigned(local.size()));
    let calls = Calls { rank, size, most: (most / size).max(1), world };
    let peers = Peers::among(&calls.gather(&describe_own()));
    let here = World { rank, size, local_rank, local_size, peers };
    if report.send(Ok(here)).is_err() {
        return;
    }
    // Whoever asked may be gone; the other ranks still need this one's part.
    for request in requests {
        match request {
            Request::Gather(bytes, answer) => drop(answer.send(Ok(calls.gather(&bytes)))),
            Request::Broadcast(bytes, root, answer) => drop(answer.send(Ok(calls.broadcast(bytes, root)))),
            Request::AllToAll(parts, answer) => drop(answer.send(Ok(calls.all_to_all(&parts)))),
            Request::Barrier(answer) => {
                calls.world.barrier();
                drop(answer.send(Ok(())));
            }
        }
    }
}

fn unsigned(count: Count) -> usize {
    usize::try_from(count).unwrap_or(0)
}

/// MPI's calls in pieces of at most `most` elements a rank.
struct Calls {
    rank: usize,
    size: usize,
    most: usize,
    world: SimpleCommunicator,
}

impl Calls {
    fn gather(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.exchange(&|_| bytes)
    }

    fn all_to_all(&self, parts: &[Vec<f32>]) -> Vec<Vec<f32>> {
        self.exchange(&|rank| &parts[rank])
    }

    /// Sends `part(r)` to each rank r.
    fn exchange<'a, T: Equivalence + Copy + Default + 'a>(&self, part: &dyn Fn(usize) -> &'a [T]) -> Vec<Vec<T>> {
        let sending: Vec<u64> = (0..self.size).map(|rank| part(rank).len() as u64).collect();
        let mut lengths = vec![0_u64; self.size * self.size];
        self.world.all_gather_into(&sending[..], &mut lengths[..]);
        // What rank `from` sends here; every rank knows the longest of all, so all make the same number of rounds.
        let receiving = |from: usize| lengths[from * self.size + self.rank] as usize;
        let longest = lengths.iter().copied().max().unwrap_or(0) as usize;
        let mut whole: Vec<Vec<T>> = (0..self.size).map(|from| Vec::with_capacity(receiving(from))).collect();
        for start in (0..longest).step_by(self.most) {
            let piece = |length: usize| start.min(length)..(start + self.most).min(length);
            let sent: Vec<&[T]> = (0..self.size).map(|rank| &part(rank)[piece(part(rank).len())]).collect();
            let counts: Vec<usize> = (0..self.size).map(|from| piece(receiving(from)).len()).collect();
            let total: usize = counts.iter().sum();
            let mut received = vec![T::default(); total + 1];
            self.round(&sent, &counts, &mut received);
            let mut rest = &received[..total];
            for (whole, count) in whole.iter_mut().zip(counts) {
                let (part, after) = rest.split_at(count);
                whole.extend_from_slice(part);
                rest = after;
            }
        }
        whole
    }

    /// One message. The address of an empty list of bytes is 1, which is Open MPI's `MPI_IN_PLACE`, so lists have one element
    /// more than is sent or received.
    fn round<T: Equivalence + Copy + Default>(&self, sent: &[&[T]], receive: &[usize], received: &mut [T]) {
        let send: Vec<usize> = sent.iter().map(|part| part.len()).collect();
        let mut sent = sent.concat();
        sent.push(T::default());
        let (send_counts, send_starts) = layout(&send);
        let (receive_counts, receive_starts) = layout(receive);
        let sent = Partition::new(&sent[..], send_counts, send_starts);
        let mut received = PartitionMut::new(received, receive_counts, receive_starts);
        self.world.all_to_all_varcount_into(&sent, &mut received);
    }

    fn broadcast(&self, mut bytes: Vec<u8>, root: usize) -> Vec<u8> {
        let process = self.world.process_at_rank(count(root));
        let mut length = bytes.len() as u64;
        process.broadcast_into(&mut length);
        bytes.resize(length as usize, 0);
        for piece in bytes.chunks_mut(self.most) {
            process.broadcast_into(piece);
        }
        bytes
    }
}

/// Counts, and where each starts.
fn layout(counts: &[usize]) -> (Vec<Count>, Vec<Count>) {
    let starts = counts.iter().scan(0, |next, count| {
        let start = *next;
        *next += count;
        Some(start)
    });
    (counts.iter().copied().map(count).collect(), starts.map(count).collect())
}

/// At most [`MOST`], by how messages are divided.
fn count(number: usize) -> Count {
    Count::try_from(number).unwrap_or(Count::MAX)
}

impl Collective for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn local_rank(&self) -> usize {
        self.local_rank
    }

    fn local_size(&self) -> usize {
        self.local_size
    }

    fn start_gather(&self, bytes: Vec<u8>) -> Result<Pending, CollectiveError> {
        let answer = self.ask(|answer| Request::Gather(bytes, answer))?;
        Ok(Pending::new(answer, Arc::clone(&self.watch)))
    }

    fn broadcast(&self, bytes: &mut Vec<u8>, root: usize) -> Result<(), CollectiveError> {
        check_rank(root, self.size)?;
        let mine = std::mem::take(bytes);
        *bytes = self.wait(|answer| Request::Broadcast(mine, root, answer))?;
        Ok(())
    }

    fn all_to_all(&self, numbers: &[f32], ranges: &[Range<usize>]) -> Result<Vec<Vec<f32>>, CollectiveError> {
        check_ranges(numbers.len(), ranges, self.size)?;
        let parts = ranges.iter().map(|range| numbers[range.clone()].to_vec()).collect();
        self.wait(|answer| Request::AllToAll(parts, answer))
    }

    fn barrier(&self) -> Result<(), CollectiveError> {
        self.wait(Request::Barrier)
    }

    fn abort(&self, cause: &str) -> ! {
        end_all(self.rank, cause)
    }
}
