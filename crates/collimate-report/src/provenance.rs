//! The origin of published figures: the machine and the commit. For pages of documentation, not for a run's report.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// The machine that figures were measured on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Hardware threads.
    pub cores: usize,
    /// Memory in GiB, rounded down.
    pub memory_gib: u64,
    /// Operating system and architecture.
    pub system: String,
    /// NVIDIA GPUs, with memory and the driver's version.
    #[serde(default)]
    pub gpus: Vec<String>,
}

impl Machine {
    /// This machine.
    pub fn here() -> Self {
        Self {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: kib_field("/proc/meminfo", "MemTotal").unwrap_or(0) >> 20,
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            gpus: gpus(),
        }
    }

    /// Peak floating-point operations per second of the first GPU, in dense bfloat16; none for a GPU that is not listed
    /// here.
    pub fn peak_flops(&self) -> Option<f64> {
        let name = self.gpus.first()?;
        PEAK_TERAFLOPS.iter().find(|(part, _)| name.contains(part)).map(|(_, teraflops)| teraflops * 1e12)
    }
}

/// Substrings of GPU names, longer ones first, with their peak in dense bfloat16 from NVIDIA's data sheets.
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

/// NVIDIA GPUs with memory and driver; empty without a driver.
pub fn gpus() -> Vec<String> {
    nvidia_smi("--query-gpu=name,memory.total,driver_version").lines().map(str::to_owned).collect()
}

/// The commit of a checkout, followed by `+` if tracked files have changed.
pub fn commit(root: &Path) -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    if changed { commit + "+" } else { commit }
}

/// The number of KiB in a line `name: 1234 kB` of a file below `/proc`; `None` if the system has no such line.
pub fn kib_field(file: &str, name: &str) -> Option<u64> {
    field(file, name)?.split_whitespace().next()?.parse().ok()
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The output of `nvidia-smi` as CSV without a header; empty if there is no driver.
pub fn nvidia_smi(query: &str) -> String {
    let output = Command::new("nvidia-smi").args([query, "--format=csv,noheader"]).output();
    let answered = output.ok().filter(|output| output.status.success());
    answered.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_known_by_the_longest_part_of_its_name() {
        let peak = |name: &str| Machine { gpus: vec![name.to_owned()], ..Machine::default() }.peak_flops();
        assert_eq!(peak("NVIDIA H100 PCIe, 81559 MiB, 550.1"), Some(756e12));
        assert_eq!(peak("NVIDIA H100 80GB HBM3, 81559 MiB, 550.1"), Some(989e12));
        assert_eq!(peak("NVIDIA L40S, 46068 MiB, 550.1"), Some(362e12));
        assert_eq!(peak("Something"), None);
    }
}
