//! Turns out-of-memory panics into errors.
//!
//! burn's operations return tensors, not results, so a backend can only panic when a device runs out of memory. libtorch
//! panics in the calling thread. CubeCL's devices have threads of their own, whose panics reach the caller later.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

use crate::error::BackendError;

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

/// Runs work on a backend and turns an out-of-memory panic into an error. Other panics propagate.
///
/// # Errors
/// The device is out of memory.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, BackendError> {
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
        Some(said) => Err(BackendError::OutOfMemory { said }),
        None => resume_unwind(panic),
    })
}

/// Calls a library that panics if its shared object is missing; `None` if it did.
#[cfg(feature = "cuda")]
pub(crate) fn tried<T>(work: impl FnOnce() -> T) -> Option<T> {
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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::libtorch_cuda(
        "called `Result::unwrap()` on an `Err` value: Torch(\"CUDA out of memory. Tried to allocate 20.00 GiB.\\nmore\")"
    )]
    #[case::libtorch_cpu("Torch(\"[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory\")")]
    #[case::cubecl(
        "called `Result::unwrap()` on an `Err` value: The server is in an invalid state\nCaused by:\n  [can't allocate buffer of size: 68719476736\n   0: backtrace"
    )]
    #[case::wgpu("wgpu error: Out of Memory\n")]
    fn running_out_of_memory_is_an_error_with_a_remedy(#[case] text: &'static str) {
        let error = guarded(|| std::panic::resume_unwind(Box::new(text.to_owned()))).map(|()| 0).expect_err("an error");
        let shown = error.to_string();
        assert!(shown.contains("memory_budget"), "{shown}");
        assert!(!shown.contains("backtrace") && !shown.contains('\n'), "{shown}");
    }

    // A single test, because what a device's thread reports is global to the process.
    #[test]
    fn shortage_in_a_device_thread_is_reported_and_other_panics_propagate() {
        assert!(!reports_panic("wgpu error: Out of Memory"), "nobody would report it");
        let error = guarded(|| {
            let device = std::thread::spawn(|| reports_panic("wgpu error: Out of Memory"));
            assert!(device.join().expect("no panic"));
            assert!(reports_panic("the device's thread is gone"));
            std::panic::resume_unwind(Box::new("the device's thread is gone"))
        });
        let expected = BackendError::OutOfMemory { said: "wgpu error: Out of Memory".to_owned() };
        assert_eq!(error.map(|()| 0), Err(expected));

        assert_eq!(guarded(|| 3), Ok(3));
        let panic = catch_unwind(|| guarded(|| std::panic::resume_unwind(Box::new("index 3 of 2"))).map(|()| 0));
        assert_eq!(panic.expect_err("a panic").downcast_ref::<&str>(), Some(&"index 3 of 2"));
    }
}
