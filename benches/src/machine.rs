//! The machine that the figures were measured on.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Hardware threads.
    pub cores: usize,
    /// Memory, rounded down.
    pub memory_gib: u64,
    /// Operating system and architecture.
    pub system: String,
    /// NVIDIA GPUs, with the driver's version.
    #[serde(default)]
    pub gpus: Vec<String>,
}

impl Machine {
    /// This machine.
    pub fn here() -> Self {
        let memory = field("/proc/meminfo", "MemTotal").and_then(|text| kib(&text));
        Self {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: memory.unwrap_or(0) >> 20,
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            gpus: gpus(),
        }
    }

    /// Peak bfloat16 FLOP/s of its first GPU by the data sheet, without sparsity; none for an unknown GPU.
    pub fn peak_flops(&self) -> Option<f64> {
        let name = self.gpus.first()?;
        PEAK_TERAFLOPS.iter().find(|(part, _)| name.contains(part)).map(|(_, teraflops)| teraflops * 1e12)
    }
}

/// Parts of GPU names, longest first, with the dense bfloat16 peak from NVIDIA's data sheets.
const PEAK_TERAFLOPS: [(&str, f64); 9] = [
    ("H100 PCIe", 756.0),
    ("H100 NVL", 835.0),
    ("H100", 989.0),
    ("H200", 989.0),
    ("A100", 312.0),
    ("L40S", 362.0),
    ("A10G", 70.0),
    ("L4", 121.0),
    ("RTX 4090", 165.0),
];

/// Names of the NVIDIA GPUs with memory and driver; empty without a driver.
pub fn gpus() -> Vec<String> {
    nvidia_smi("--query-gpu=name,memory.total,driver_version").lines().map(str::to_owned).collect()
}

/// GPU memory of a process, including what its allocator keeps; none if there is none or the driver does not report it.
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

fn nvidia_smi(query: &str) -> String {
    let output = Command::new("nvidia-smi").args([query, "--format=csv,noheader"]).output();
    let answered = output.ok().filter(|output| output.status.success());
    answered.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// Peak resident memory of a process, mapped files included; none if the system does not report it.
pub fn peak_bytes(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(kib(line)? << 10)
}

/// Touches most of the free memory and returns it.
///
/// A virtual machine may get its memory only as it is touched. The first program to need much would then wait for it and seem
/// slower than it is. Does nothing if the system does not report free memory.
pub fn touch_memory() {
    const BLOCK: usize = 64 << 20;
    const PAGE: usize = 4096;
    let Some(free) = field("/proc/meminfo", "MemAvailable").and_then(|text| kib(&text)) else { return };
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
    /// Readings up to now; none if the system does not report them.
    pub fn of(process: u32) -> Option<Self> {
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

/// Number of busy cores, averaged over a time span from now; none if the system does not report it.
pub fn num_busy(span: Duration) -> f64 {
    let before = busy_seconds();
    sleep(span);
    let busy = before.zip(busy_seconds()).map(|(before, after)| after - before);
    busy.unwrap_or(0.0) / span.as_secs_f64()
}

/// CPU seconds of the machine since it started; Linux reports hundredths.
fn busy_seconds() -> Option<f64> {
    let machine = fs::read_to_string("/proc/stat").ok()?;
    Some(ticks(machine.lines().next()?).skip(1).take(3).sum::<f64>() / 100.0)
}

/// Numbers in a line; anything else counts as zero.
fn ticks(line: &str) -> impl Iterator<Item = f64> {
    line.split_whitespace().map(|word| word.parse().unwrap_or(0.0))
}

/// The value in a line `name: value`.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Parses `1234 kB`.
fn kib(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// The commit of a checkout, with `+` if tracked files differ from it.
pub fn commit(root: &Path) -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    if changed { commit + "+" } else { commit }
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

    #[test]
    fn a_gpu_is_known_by_the_longest_part_of_its_name() {
        let peak = |name: &str| Machine { gpus: vec![name.to_owned()], ..Machine::default() }.peak_flops();
        assert_eq!(peak("NVIDIA H100 PCIe, 81559 MiB, 550.1"), Some(756e12));
        assert_eq!(peak("NVIDIA H100 80GB HBM3, 81559 MiB, 550.1"), Some(989e12));
        assert_eq!(peak("NVIDIA L40S, 46068 MiB, 550.1"), Some(362e12));
        assert_eq!(peak("Something"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_of_this_process_is_known_and_holds_what_it_touched() {
        let touched = std::hint::black_box(vec![1_u8; 64 << 20]);
        let peak = peak_bytes(std::process::id()).expect("a status");
        assert!(peak >= touched.len() as u64, "{peak}");
    }
}
