//! What of the machine this process may use: memory and cores, and how its allocator keeps memory.
//!
//! A container, a job of a batch system or `ulimit` often grants less than the machine has, and a process that takes more
//! is killed without a word. [`memory_limit`] is the least of all limits, and names the one that is the least.
//!
//! Only limits count, not what is in use at the moment: a run that is resumed must divide its data as it did before.
//!
//! Read first: [`memory_limit`]. Must not know: devices, budgets, what the memory is for.

mod allocator;
mod cgroups;
mod rlimits;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

pub use allocator::{give_back_memory, keep_freed_memory};

/// The most memory that this process may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryLimit {
    /// In bytes.
    pub bytes: u64,
    /// What sets it.
    pub source: LimitSource,
}

/// What limits the memory of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitSource {
    /// There is no more in the machine.
    Machine,
    /// A control group, as containers and batch systems have them: the file that says so.
    ControlGroup(PathBuf),
    /// `ulimit -v`, less the addresses that are reserved and not used.
    AddressSpace,
    /// `ulimit -d`.
    Data,
}

impl fmt::Display for LimitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine => f.write_str("the machine's memory"),
            Self::ControlGroup(file) => write!(f, "the limit in {}", file.display()),
            Self::AddressSpace => f.write_str("ulimit -v, less what threads reserve"),
            Self::Data => f.write_str("ulimit -d"),
        }
    }
}

/// The most memory that this process may use, on Linux: the least of the machine's, its control groups' (of both versions, and
/// all that they are in) and its resource limits (`ulimit -v`, `ulimit -d`). `None` where the system says none of them.
pub fn memory_limit() -> Option<MemoryLimit> {
    memory_limit_in(Path::new("/"), cores())
}

/// Threads that this process can run at once, at least one: the machine's, those of its affinity (`taskset`, cpusets), and of
/// the quota of its control groups, rounded down.
pub fn cores() -> usize {
    // The standard library counts affinity and the quotas of control groups, of both versions.
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// [`memory_limit`] with `/proc` and `/sys` in `root`, for a process of so many threads.
fn memory_limit_in(root: &Path, threads: usize) -> Option<MemoryLimit> {
    let limits = rlimits::limits(root, threads);
    let found = machine(root).into_iter().chain(cgroups::limit(root)).chain(limits);
    // Among equals the first: the machine's.
    found.min_by_key(|limit| limit.bytes)
}

/// The machine's memory.
fn machine(root: &Path) -> Option<MemoryLimit> {
    let text = read(root, Path::new("/proc/meminfo"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes = line.split_whitespace().next()?.parse::<u64>().ok()?;
    Some(MemoryLimit { bytes: kibibytes.saturating_mul(1024), source: LimitSource::Machine })
}

/// The text of a file of `/proc` or `/sys`; `None` if it is not there.
fn read(root: &Path, absolute: &Path) -> Option<String> {
    fs::read_to_string(root.join(absolute.strip_prefix("/").unwrap_or(absolute))).ok()
}
