//! Memory of a device that runs out: backends panic, and [`guarded`] makes an error of it.
//!
//! burn's operations return tensors, not results, so a backend has no other way to say it. libtorch panics in the calling
//! thread; CubeCL's devices have threads of their own, and what these panic with, or note, comes out in the caller later.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

use crate::BackendError;

/// What the libraries below burn say, in lower case: CUDA and libtorch, libtorch's CPU allocator, CubeCL, wgpu.
const MARKS: [&str; 7] = [
    "out of memory",
    "out-of-memory",
    "out_of_memory",
    "outofmemory",
    "can't allocate memory",
    "can't allocate buffer",
    "not enough memory left",
];
/// Of what a backend says, at most so many characters are repeated.
const SHOWN: usize = 160;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static TRYING: Cell<bool> = const { Cell::new(false) };
}

/// Guards at work in this process, and what a device's own thread has said meanwhile.
static GUARDS: Mutex<Guards> = Mutex::new(Guards { count: 0, said: None });

#[derive(Debug)]
struct Guards {
    count: usize,
    said: Option<String>,
}

/// The result of work on a backend; an error where it panics because the device's memory ran out. Other panics go on.
///
/// # Errors
/// The device has no memory left.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, BackendError> {
    let outer = GUARDED.replace(true);
    with_guards(|guards| guards.count += 1);
    // What the work held is dropped on the way out.
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

/// What comes of trying a library that panics where a file of it is missing; none of a panic.
#[cfg(feature = "cuda")]
pub(crate) fn tried<T>(work: impl FnOnce() -> T) -> Option<T> {
    let outer = TRYING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work)).ok();
    TRYING.set(outer);
    result
}

/// Whether [`guarded`] will report what a panic says, so that a program's panic hook need not speak; to be asked once for
/// each panic, in its thread.
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
        // What follows from it in the thread that waits for the device.
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

/// The line of a message that says that memory ran out; a backtrace may stand before and after it.
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
    fn memory_that_runs_out_is_an_error_with_a_remedy(#[case] text: &'static str) {
        let error = guarded(|| std::panic::resume_unwind(Box::new(text.to_owned()))).map(|()| 0).expect_err("an error");
        let shown = error.to_string();
        assert!(shown.contains("memory_budget"), "{shown}");
        assert!(!shown.contains("backtrace") && !shown.contains('\n'), "{shown}");
    }

    // One test: what a device's thread says is known to the whole process.
    #[test]
    fn what_a_devices_own_thread_says_counts_and_another_panic_goes_on() {
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
