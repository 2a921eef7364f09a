//! Time and memory of processes, as reported by the system.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use collimate_report::provenance::{kib_field, nvidia_smi};

/// GPU memory of a process, including its allocator's cache; `None` without a GPU or if the driver does not report it.
pub fn gpu_bytes(process: u32) -> Option<u64> {
    of_process(&nvidia_smi("--query-compute-apps=pid,used_memory"), process)
}

/// Parses lines of `1234, 567 MiB`.
fn of_process(answer: &str, process: u32) -> Option<u64> {
    let mebibytes = answer.lines().filter_map(|line| {
        let (pid, memory) = line.split_once(',')?;
        let own = pid.trim().parse() == Ok(process);
        memory.trim().strip_suffix("MiB").filter(|_| own)?.trim().parse::<u64>().ok()
    });
    mebibytes.reduce(|sum, one| sum + one).map(|mebibytes| mebibytes << 20)
}

/// Peak resident memory of a process, mapped files included; `None` if the system does not report it.
pub fn peak_bytes(process: u32) -> Option<u64> {
    Some(kib_field(&format!("/proc/{process}/status"), "VmHWM")? << 10)
}

/// Touches most of the free memory and returns it.
///
/// A virtual machine may get its memory only as it is touched. The first program to need much would then wait for it and
/// appear slower than it is. Does nothing if the system does not report free memory.
pub fn touch_memory() {
    const BLOCK: usize = 64 << 20;
    const PAGE: usize = 4096;
    let Some(free) = kib_field("/proc/meminfo", "MemAvailable") else { return };
    let num_blocks = (free << 10) as usize / 100 * 80 / BLOCK;
    let mut blocks = Vec::with_capacity(num_blocks);
    for _ in 0..num_blocks {
        let mut block = vec![0_u8; BLOCK];
        block.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
        blocks.push(std::hint::black_box(block));
    }
}

/// CPU seconds of a process and of the whole machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CpuTime {
    process: f64,
    machine: f64,
}

impl CpuTime {
    /// Reads the current values; `None` if the system does not report them.
    pub fn read(process: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let own: f64 = ticks(status.rsplit_once(')')?.1).skip(11).take(2).sum();
        Some(Self { process: own / 100.0, machine: busy_seconds()? })
    }

    /// CPU seconds of the process and of all others since an earlier reading.
    pub fn since(&self, earlier: &Self) -> (f64, f64) {
        let own = self.process - earlier.process;
        (own, (self.machine - earlier.machine - own).max(0.0))
    }
}

/// Number of busy cores, averaged over a time span from now; 0 if the system does not report it.
pub fn num_busy(span: Duration) -> f64 {
    let before = busy_seconds();
    sleep(span);
    let busy = before.zip(busy_seconds()).map(|(before, after)| after - before);
    busy.unwrap_or(0.0) / span.as_secs_f64()
}

/// CPU seconds of the machine since boot; Linux reports hundredths.
fn busy_seconds() -> Option<f64> {
    let machine = fs::read_to_string("/proc/stat").ok()?;
    Some(ticks(machine.lines().next()?).skip(1).take(3).sum::<f64>() / 100.0)
}

/// Numbers in a line; anything else counts as zero.
fn ticks(line: &str) -> impl Iterator<Item = f64> {
    line.split_whitespace().map(|word| word.parse().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_on_gpus_is_that_of_the_process() {
        let answer = "12, 500 MiB\n7, 3 MiB\n12, 20 MiB\n9, [N/A]\n";
        assert_eq!(of_process(answer, 12), Some(520 << 20));
        assert_eq!(of_process(answer, 9), None);
        assert_eq!(of_process("", 12), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_of_this_process_is_known_and_holds_what_it_touched() {
        let touched = std::hint::black_box(vec![1_u8; 64 << 20]);
        let peak = peak_bytes(std::process::id()).expect("a status");
        assert!(peak >= touched.len() as u64, "{peak}");
    }
}
