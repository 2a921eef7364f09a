//! Memory between steps.
#![allow(unsafe_code)] // the C library's settings have no safe form

/// Makes glibc keep what tensors free for the next ones.
///
/// Activations come and go block by block. By default glibc gives buffers of megabytes back to the system, which clears
/// every page again when it is asked for the next: a fifth of a training step. Elsewhere nothing is changed.
pub(crate) fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// The largest that glibc takes; beyond it a buffer is mapped by itself and given back when it is freed.
        const LARGEST: libc::c_int = 32 << 20;
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            // SAFETY: settings of the allocator, which it may take at any time; refused ones change nothing.
            unsafe {
                libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST);
                libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
                libc::mallopt(libc::M_TOP_PAD, 2 * LARGEST);
            }
        });
    }
}

/// Gives what tensors have freed back to the system.
///
/// For moments after which other sizes are asked for: packs of unlike lengths would leave holes that add up.
pub fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: takes back only what nothing uses, at any time.
        let _ = unsafe { libc::malloc_trim(0) };
    }
}
