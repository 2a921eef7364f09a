//! The thread pool of the kernels, and which thread runs a run's passes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

/// Whether a run may make its thread one of the pool's.
static JOINS_THE_POOL: AtomicBool = AtomicBool::new(false);

/// Makes the thread that starts the run one of the pool's. Call it before anything uses the pool, in a program that trains
/// on its main thread.
///
/// All passes then run on that thread. Otherwise each runs on whichever thread picks it up, and memory freed by one thread
/// is not reused by the next: allocators cache it per thread.
pub fn run_passes_on_the_main_thread() {
    JOINS_THE_POOL.store(true, Ordering::Relaxed);
}

/// Builds the pool, once per process: later runs keep the first one's size. Zero means one thread per core.
pub fn set_threads(num_threads: usize) {
    let joins = JOINS_THE_POOL.load(Ordering::Relaxed);
    if num_threads == 0 && !joins {
        return;
    }
    let builder = rayon::ThreadPoolBuilder::new().num_threads(num_threads);
    let count = if num_threads > 0 { num_threads } else { std::thread::available_parallelism().map_or(1, usize::from) };
    // A pool of one runs all passes on one thread anyway, and must not wait for this one.
    let builder = if joins && count > 1 { builder.use_current_thread() } else { builder };
    let _ = builder.build_global();
}

/// Waits for a thread that uses the pool; meanwhile works for the pool if this thread belongs to it.
///
/// Resumes a panic of that thread.
pub fn join<T>(handle: ScopedJoinHandle<'_, T>) -> T {
    while !handle.is_finished() {
        match rayon::yield_now() {
            Some(rayon::Yield::Executed) => {}
            Some(rayon::Yield::Idle) => std::thread::sleep(Duration::from_micros(200)),
            None => break,
        }
    }
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
