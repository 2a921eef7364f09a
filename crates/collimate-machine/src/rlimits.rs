//! Resource limits of this process, which `ulimit` sets.

use std::path::Path;

use crate::{LimitSource, MemoryLimit, read};

/// Addresses that an idle process of ours has beyond its memory: its code and libraries, and what the allocator pads the heap
/// with.
const IDLE: u64 = 64 << 20;
/// Addresses that glibc reserves for each thread's heap.
const THREAD_HEAP: u64 = 64 << 20;

/// The limits of address space and data, where there are some.
pub(crate) fn limits(root: &Path, threads: usize) -> Vec<MemoryLimit> {
    // The kernel's own list; asking it by a system call has no safe form here.
    let Some(text) = read(root, Path::new("/proc/self/limits")) else { return Vec::new() };
    let soft = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let reserved = IDLE + THREAD_HEAP.saturating_mul(threads as u64);
    let address_space = soft("Max address space")
        .map(|bytes| MemoryLimit { bytes: bytes.saturating_sub(reserved), source: LimitSource::AddressSpace });
    let data = soft("Max data size").map(|bytes| MemoryLimit { bytes, source: LimitSource::Data });
    address_space.into_iter().chain(data).collect()
}
