//! Configures how the C library's allocator keeps memory between operations and between steps.
#![allow(unsafe_code)] // the C library's settings have no safe form

/// Makes glibc reuse the memory of freed tensors.
///
/// Activations are allocated and freed block by block. By default glibc returns buffers of megabytes to the system, which
/// then has to clear every page of the next one: a fifth of a training step. Does nothing with other C libraries.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// The largest threshold that glibc accepts; larger buffers are mapped individually and unmapped when freed.
        const LARGEST: libc::c_int = 32 << 20;
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            // SAFETY: allocator settings may change at any time; a refused one has no effect.
            unsafe {
                libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST);
                libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
                libc::mallopt(libc::M_TOP_PAD, 2 * LARGEST);
            }
        });
    }
}

/// Returns freed memory to the system.
///
/// Call it before allocations of other sizes: fragments left by packs of different lengths would accumulate.
pub fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: releases only free memory and may be called at any time.
        let _ = unsafe { libc::malloc_trim(0) };
    }
}
