//! An allocator that counts the current thread's memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting per thread. A program installs it with `#[global_allocator]`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counting;

/// Larger allocations fail, which ends the program; otherwise they could exhaust the machine.
const LARGEST_ALLOCATION: usize = 6 << 30;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

/// Starts a new measurement of this thread's peak.
pub fn reset_peak() {
    PEAK.set(HELD.get());
}

/// Peak of this thread's memory in bytes above what it held at the last [`reset_peak`]; zero if [`Counting`] is not
/// installed.
pub fn peak_since(held: usize) -> usize {
    PEAK.get().saturating_sub(held)
}

/// Bytes that this thread holds.
pub(crate) fn held() -> usize {
    HELD.get()
}

fn grown(bytes: usize) {
    // A thread that is ending may have lost its counters.
    let _ = HELD.try_with(|held| {
        held.set(held.get().wrapping_add(bytes));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

fn shrunk(bytes: usize) {
    // The memory may be another thread's.
    let _ = HELD.try_with(|held| held.set(held.get().saturating_sub(bytes)));
}

// SAFETY: every call is passed on to the system's allocator unchanged; only counters without destructors are touched,
// which allocate nothing.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > LARGEST_ALLOCATION {
            return std::ptr::null_mut();
        }
        grown(layout.size());
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > LARGEST_ALLOCATION {
            return std::ptr::null_mut();
        }
        grown(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        shrunk(layout.size());
        // SAFETY: the pointer came from the system's allocator with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > LARGEST_ALLOCATION {
            return std::ptr::null_mut();
        }
        grown(size);
        shrunk(layout.size());
        // SAFETY: as above; the size is the caller's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
