//! Speed and memory over the steps.

use crate::charts::Series;
use crate::history::History;

const MIB: f64 = (1 << 20) as f64;

/// Tokens a second in the steps that were recorded.
pub(super) fn speed(history: &History, name: &str, color: usize) -> Series {
    Series::smoothed_line(name, color, history.rates())
}

/// The process's memory after each step, in MiB.
pub(super) fn memory(history: &History, name: &str, color: usize) -> Series {
    let points = history.points("memory_bytes").into_iter().map(|(step, bytes)| (step, bytes / MIB));
    Series::line(name, color, points.collect())
}
