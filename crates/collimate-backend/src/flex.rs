//! burn's pure-Rust CPU backend.

use burn_flex::FlexDevice;

use crate::DeviceInfo;

pub(crate) fn device() -> FlexDevice {
    FlexDevice
}

pub(crate) fn devices() -> Vec<DeviceInfo> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    vec![DeviceInfo {
        index: 0,
        name: format!("CPU, {threads} threads"),
        memory_bytes: total_memory(),
        dtypes: vec!["float32"],
    }]
}

/// Physical memory as Linux reports it; `None` elsewhere.
fn total_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}
