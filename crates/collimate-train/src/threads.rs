//! The pool of threads, and who computes a run's passes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

/// Whether a run may make its thread one of the pool's.
static JOINS_THE_POOL: AtomicBool = AtomicBool::new(false);

/// Lets the thread of the process's run be one of the pool's threads. For a program whose main thread does the run, before
/// anything uses the pool.
///
/// Passes then run on that thread and no other. Without it each runs on whichever thread of the pool takes it, and what one
/// of them frees is of no use to the next: allocators hold memory for each thread.
pub fn run_passes_on_the_main_thread() {
    JOINS_THE_POOL.store(true, Ordering::Relaxed);
}

/// Makes the pool, once a process: a later run keeps the first's size. Zero is a thread a core.
pub(crate) fn set_threads(num_threads: usize) {
    let joins = JOINS_THE_POOL.load(Ordering::Relaxed);
    if num_threads == 0 && !joins {
        return;
    }
    let builder = rayon::ThreadPoolBuilder::new().num_threads(num_threads);
    let count = if num_threads > 0 { num_threads } else { std::thread::available_parallelism().map_or(1, usize::from) };
    // A pool of one computes all passes on one thread anyway, and must not wait for this one.
    let builder = if joins && count > 1 { builder.use_current_thread() } else { builder };
    let _ = builder.build_global();
}

/// Waits for a thread that uses the pool, and works for the pool meanwhile where this thread is one of it.
///
/// A panic of the thread goes on here.
pub(crate) fn join<T>(handle: ScopedJoinHandle<'_, T>) -> T {
    while !handle.is_finished() {
        match rayon::yield_now() {
            Some(rayon::Yield::Executed) => {}
            Some(rayon::Yield::Idle) => std::thread::sleep(Duration::from_micros(200)),
            None => break,
        }
    }
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
