//! Turns out-of-memory panics into errors.
//!
//! burn's operations return tensors, not results, so a backend can only panic when a device runs out of memory. libtorch
//! panics in the calling thread. CubeCL's devices have threads of their own, whose panics reach the caller later.
//!
//! Read first: [`guarded`]. Must not know: backends, tensors.
//!
//! ```
//! let found = collimate_faults::guarded(|| -> u32 { panic!("CUDA error: out of memory") });
//! assert_eq!(found, Err("CUDA error: out of memory".to_owned()));
//! ```

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

/// Phrases for it, in lower case, of CUDA, libtorch, libtorch's CPU allocator, CubeCL and wgpu.
const MARKS: [&str; 7] = [
    "out of memory",
    "out-of-memory",
    "out_of_memory",
    "outofmemory",
    "can't allocate memory",
    "can't allocate buffer",
    "not enough memory left",
];
/// Maximum number of characters of a backend's message to repeat in the error.
const SHOWN: usize = 160;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static TRYING: Cell<bool> = const { Cell::new(false) };
}

/// Active guards of this process, and what a device's own thread has reported meanwhile.
static GUARDS: Mutex<Guards> = Mutex::new(Guards { count: 0, said: None });

#[derive(Debug)]
struct Guards {
    count: usize,
    said: Option<String>,
}

/// Runs work on a device and turns an out-of-memory panic into an error. Other panics propagate.
///
/// # Errors
/// The device is out of memory; what was said about it.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = GUARDED.replace(true);
    with_guards(|guards| guards.count += 1);
    // Unwind-safe: whatever the work holds is dropped as it unwinds.
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    let said = with_guards(|guards| {
        guards.count -= 1;
        if guards.count == 0 { guards.said.take() } else { guards.said.clone() }
    });
    result.or_else(|panic| match message(panic.as_ref()).and_then(shortage).or(said) {
        Some(said) => Err(said),
        None => resume_unwind(panic),
    })
}

/// Calls a library that panics if its shared object is missing; `None` if it did.
pub fn tried<T>(work: impl FnOnce() -> T) -> Option<T> {
    let outer = TRYING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work)).ok();
    TRYING.set(outer);
    result
}

/// Whether [`guarded`] will report this panic, so that the program's panic hook can stay silent.
///
/// A panic hook must call it exactly once per panic, in the thread that panicked.
pub fn reports_panic(message: &str) -> bool {
    if TRYING.get() {
        return true;
    }
    with_guards(|guards| match shortage(message) {
        Some(said) if guards.count > 0 => {
            if !GUARDED.get() {
                guards.said = Some(said);
            }
            true
        }
        // The follow-up panic in the thread that waits for the device.
        None if GUARDED.get() => guards.said.is_some(),
        _ => false,
    })
}

fn with_guards<T>(f: impl FnOnce(&mut Guards) -> T) -> T {
    f(&mut GUARDS.lock().unwrap_or_else(PoisonError::into_inner))
}

fn message(panic: &(dyn Any + Send)) -> Option<&str> {
    panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied())
}

/// The line of a message that reports the shortage; a backtrace may surround it.
fn shortage(message: &str) -> Option<String> {
    let says_so = |line: &&str| {
        let line = line.to_ascii_lowercase();
        MARKS.iter().any(|mark| line.contains(mark))
    };
    let line = message.lines().find(says_so)?.trim();
    Some(line.chars().take(SHOWN).collect())
}
