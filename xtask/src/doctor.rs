//! `cargo xtask doctor`: whether this machine can build and train.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::Result;

use crate::backend;
use crate::cuda::Toolkit;
use crate::launch;
use crate::libtorch::Libtorch;
use crate::workspace::Workspace;

/// Disk space for the dev and release builds, with some to spare.
const DISK_GIB: f64 = 12.0;
/// Memory for compiling burn on two cores.
const MEMORY_GIB: f64 = 4.0;

/// Where toolkits are installed.
const TOOLKITS: [&str; 2] = ["/usr/local/cuda", "/opt/cuda"];

#[derive(Debug)]
enum Verdict {
    Fine(String),
    /// What was found, and the remedy.
    Short(String, String),
    /// Why it is unknown.
    Unknown(String),
}

/// Prints one line per finding; fails if something is missing.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    let findings = [
        ("cargo", program("cargo", "--version", "install Rust with rustup")),
        ("rustc", program("rustc", "--version", "install Rust with rustup")),
        ("clippy", program("cargo-clippy", "--version", "rustup component add clippy")),
        ("rustfmt", program("rustfmt", "--version", "rustup component add rustfmt")),
        ("C compiler", program("cc", "--version", "install gcc or clang: Rust links with it")),
        ("typos", optional("typos", "cargo install typos-cli --locked")),
        ("cargo-deny", optional("cargo-deny", "cargo install cargo-deny --locked")),
        ("cores", cores()),
        ("memory", enough("free", memory_gib(), MEMORY_GIB, "close programs, or build with --jobs 1")),
        ("its limit", memory_limit()),
        ("disk", enough("free", disk_gib(&workspace.root), DISK_GIB, "make room, or set CARGO_TARGET_DIR")),
        ("backends", Verdict::Fine(backend::available(workspace)?.join(", "))),
        ("libtorch", libtorch(workspace)),
        ("CUDA", cuda(workspace)),
        ("MPI", mpi()),
        ("Vulkan", vulkan()),
        ("GPU", gpu()),
    ];
    let mut short = 0;
    for (name, verdict) in &findings {
        match verdict {
            Verdict::Fine(found) => println!("  ok       {name:<11} {found}"),
            Verdict::Unknown(reason) => println!("  unknown  {name:<11} {reason}"),
            Verdict::Short(found, remedy) => {
                short += 1;
                println!("  SHORT    {name:<11} {found}: {remedy}");
            }
        }
    }
    if short == 0 {
        println!("Ready: cargo xtask train --objective nca");
    }
    Ok(if short == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn program(name: &str, argument: &str, remedy: &str) -> Verdict {
    match first_line(Command::new(name).arg(argument)) {
        Some(line) => Verdict::Fine(line),
        None => Verdict::Short("not found".to_owned(), remedy.to_owned()),
    }
}

/// A program that `cargo xtask check` uses if it is installed.
fn optional(name: &str, remedy: &str) -> Verdict {
    let missing = format!("not installed, so `cargo xtask check` does less; {remedy}");
    Verdict::Fine(first_line(Command::new(name).arg("--version")).unwrap_or(missing))
}

fn gpu() -> Verdict {
    let mut query = Command::new("nvidia-smi");
    match first_line(query.args(["--query-gpu=name,memory.total", "--format=csv,noheader"])) {
        Some(line) => Verdict::Fine(line),
        None => Verdict::Fine("none found; training runs on the CPU".to_owned()),
    }
}

fn libtorch(workspace: &Workspace) -> Verdict {
    match Libtorch::find(workspace) {
        Ok(found) => Verdict::Fine(found.libraries().display().to_string()),
        Err(_) => Verdict::Fine("not set up; `cargo xtask libtorch` does, for --backend libtorch".to_owned()),
    }
}

/// The toolkit that `--backend cuda` compiles its kernels with, in the order in which it is looked for.
fn cuda(workspace: &Workspace) -> Verdict {
    let named = std::env::var_os("CUDA_PATH").map(|folder| format!("CUDA_PATH is {}", folder.display()));
    let made = || Toolkit::find(workspace).map(|toolkit| toolkit.folder().display().to_string());
    let installed = || TOOLKITS.iter().find(|folder| Path::new(folder).exists()).map(|folder| (*folder).to_owned());
    let missing = "no toolkit found; `cargo xtask cuda` makes one, for --backend cuda";
    Verdict::Fine(named.or_else(made).or_else(installed).unwrap_or_else(|| missing.to_owned()))
}

/// What `cargo xtask launch` needs.
fn mpi() -> Verdict {
    let found = || launch::version().unwrap_or_default();
    Verdict::Fine(launch::missing().map_or_else(found, |missing| format!("{missing}, for cargo xtask launch")))
}

/// The Vulkan driver that `--backend wgpu` needs, which Linux describes in a file.
fn vulkan() -> Verdict {
    let folders = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let mut names: Vec<String> = files.map(|file| file.file_name().display().to_string()).collect();
    names.sort();
    match names.is_empty() {
        false => Verdict::Fine(names.join(", ")),
        true => Verdict::Fine("no driver found; mesa-vulkan-drivers has some, for --backend wgpu".to_owned()),
    }
}

/// The cores that a build and a run use.
fn cores() -> Verdict {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    Verdict::Fine(usable_cores(collimate_machine::cores(), &cpuinfo))
}

fn usable_cores(count: usize, cpuinfo: &str) -> String {
    let all = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    match all > count {
        true => format!("{count} of {all}, by affinity or by the quota of a control group"),
        false => count.to_string(),
    }
}

/// The most memory that a run may use, of which `memory_budget: auto` takes three quarters.
fn memory_limit() -> Verdict {
    match collimate_machine::memory_limit() {
        Some(limit) => Verdict::Fine(format!("{:.1} GiB: {}", gib(limit.bytes), limit.source)),
        None => Verdict::Unknown("this system does not say".to_owned()),
    }
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::powi(2.0, 30)
}

fn enough(what: &str, found: Option<f64>, needed: f64, remedy: &str) -> Verdict {
    match found {
        None => Verdict::Unknown("this system does not say".to_owned()),
        Some(gib) if gib >= needed => Verdict::Fine(format!("{gib:.1} GiB {what}")),
        Some(gib) => Verdict::Short(format!("{gib:.1} GiB {what}, {needed:.0} GiB needed"), remedy.to_owned()),
    }
}

fn memory_gib() -> Option<f64> {
    let free = available_memory_gib(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
    // What is free in the machine is no use beyond the limit.
    Some(collimate_machine::memory_limit().map_or(free, |limit| free.min(gib(limit.bytes))))
}

fn available_memory_gib(meminfo: &str) -> Option<f64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0 / 1024.0)
}

fn disk_gib(folder: &Path) -> Option<f64> {
    let output = Command::new("df").arg("-Pk").arg(folder).stderr(Stdio::null()).output().ok()?;
    free_disk_gib(&String::from_utf8_lossy(&output.stdout))
}

/// The fourth column of `df -kP`.
fn free_disk_gib(table: &str) -> Option<f64> {
    let kib: f64 = table.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kib / 1024.0 / 1024.0)
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().filter(|_| output.status.success())?;
    Some(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_disk_are_read_in_gib() {
        let meminfo = "MemTotal:       33554432 kB\nMemAvailable:   16777216 kB\n";
        assert_eq!(available_memory_gib(meminfo), Some(16.0));
        let table = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/x 4194304 1048576 3145728 25% /\n";
        assert_eq!(free_disk_gib(table), Some(3.0));
        assert_eq!(free_disk_gib("nothing"), None);
    }

    #[test]
    fn cores_that_may_not_be_used_are_told_of() {
        let cpuinfo = "processor\t: 0\nmodel name\t: x\nprocessor\t: 1\n";
        assert_eq!(usable_cores(2, cpuinfo), "2");
        assert_eq!(usable_cores(1, cpuinfo), "1 of 2, by affinity or by the quota of a control group");
        assert_eq!(usable_cores(3, ""), "3");
    }

    #[test]
    fn what_is_short_comes_with_its_remedy() {
        assert!(
            matches!(enough("free", Some(1.0), 2.0, "make room"), Verdict::Short(_, remedy) if remedy == "make room")
        );
        assert!(matches!(enough("free", Some(2.0), 2.0, "make room"), Verdict::Fine(_)));
        assert!(matches!(enough("free", None, 2.0, "make room"), Verdict::Unknown(_)));
    }

    #[test]
    fn a_program_that_is_not_there_is_short() {
        assert!(matches!(program("no-such-program-here", "--version", "install it"), Verdict::Short(..)));
    }
}
