//! `cargo xtask kernels`: the GPU kernels on a Vulkan driver, and the record of the code with which they passed.
//!
//! Building CubeCL's backend takes longer than all other tests together, and its tests depend on few files. So CI runs them
//! only if these files are not the recorded ones.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use toml::{Table, Value};

use crate::steps::{Steps, execute};
use crate::test_run::for_cubecl;
use crate::workspace::Workspace;

/// Name of the step of `cargo xtask test`.
const STEP: &str = "kernels on wgpu";
/// The crate with the kernels, the operations in plain form that they are compared with, and their tests.
const KERNELS: &str = "crates/collimate-backend";
/// Packages whose version decides what a kernel computes: their names begin so.
const COMPILERS: [&str; 5] = ["burn", "cubecl", "cubek", "naga", "wgpu"];
/// The record.
const PASSED: &str = "crates/collimate-backend/kernels-passed.sha256";
/// Where Vulkan's loader looks for drivers on Linux.
const GRAPHICS_DRIVERS: [&str; 3] = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];

/// Runs the tests, and records the code if they pass.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    if !has_driver() {
        bail!("no Vulkan driver here; on Debian mesa-vulkan-drivers has one in software");
    }
    let tested = fingerprint(workspace)?;
    test(workspace)?;
    let file = workspace.root.join(PASSED);
    std::fs::write(&file, format!("{tested}\n")).with_context(|| format!("cannot write {}", file.display()))?;
    eprintln!("The kernels passed; recorded in {PASSED}.");
    Ok(ExitCode::SUCCESS)
}

/// The tests as a step of CI, left out if they passed with the same code.
pub(crate) fn step(workspace: &Workspace, steps: &mut Steps) {
    match fingerprint(workspace) {
        Ok(now) if workspace.read(PASSED).is_ok_and(|passed| passed.trim() == now) => {
            steps.leave_out(STEP, format!("their code is that of {PASSED}, with which they passed"));
        }
        Ok(_) if !has_driver() => {
            steps.leave_out(STEP, "no Vulkan driver; on Debian mesa-vulkan-drivers has one in software".to_owned());
        }
        Ok(_) => steps.run(STEP, || test(workspace)),
        Err(error) => steps.run(STEP, || Err(error)),
    }
}

fn test(workspace: &Workspace) -> Result<()> {
    let mut tests = workspace.cargo_here("test");
    for_cubecl(&mut tests);
    execute(tests.args(["-p", "collimate-backend", "--features", "wgpu", "--lib", "cube"]))
}

/// SHA-256 of the crate's files and of the versions of what compiles its kernels.
fn fingerprint(workspace: &Workspace) -> Result<String> {
    let mut files = Vec::new();
    list(&workspace.root.join(KERNELS), &mut files)?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs" || extension == "toml"));
    files.sort();
    let mut hash = Sha256::new();
    for file in &files {
        let name = file.strip_prefix(&workspace.root).unwrap_or(file).to_string_lossy().replace('\\', "/");
        let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        // A checkout may have other line ends.
        let text = String::from_utf8_lossy(&text).replace("\r\n", "\n");
        hash.update(format!("{name}\n{}\n{text}", text.len()));
    }
    hash.update(versions(&workspace.read("Cargo.lock")?)?);
    Ok(hash.finalize().iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        match path.is_dir() {
            true => list(&path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}

/// Names and versions of the packages that compile kernels, a line each, in the lock file's order.
fn versions(lock: &str) -> Result<String> {
    let lock: Table = lock.parse().context("Cargo.lock")?;
    let packages = lock.get("package").and_then(Value::as_array).context("Cargo.lock has no packages")?;
    let mut text = String::new();
    for package in packages {
        let field = |key| package.get(key).and_then(Value::as_str).unwrap_or_default();
        if COMPILERS.iter().any(|name| field("name").starts_with(name)) {
            text.push_str(&format!("{} {}\n", field("name"), field("version")));
        }
    }
    Ok(text)
}

/// Whether Vulkan's loader finds a driver.
fn has_driver() -> bool {
    let describes = |folder: &str| {
        let Ok(entries) = std::fs::read_dir(folder) else { return false };
        entries.flatten().any(|entry| entry.path().extension().is_some_and(|extension| extension == "json"))
    };
    GRAPHICS_DRIVERS.iter().any(|folder| describes(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "version = 4\n[[package]]\nname = \"anyhow\"\nversion = \"1.0.1\"\n\
                        [[package]]\nname = \"cubecl-core\"\nversion = \"0.10.0\"\n";

    /// A checkout with one kernel in a temporary folder.
    fn checkout(name: &str) -> Workspace {
        let root = std::env::temp_dir().join(format!("xtask-kernels-{name}-{}", std::process::id()));
        std::fs::create_dir_all(root.join(KERNELS).join("src")).expect("a folder");
        std::fs::write(root.join("Cargo.lock"), LOCK).expect("a file");
        std::fs::write(root.join(KERNELS).join("src/cube.rs"), "fn kernel() {}\n").expect("a file");
        Workspace { target: root.clone(), root }
    }

    #[test]
    fn a_change_of_code_or_compiler_changes_the_fingerprint_and_nothing_else_does() {
        let workspace = checkout("print");
        let print = || fingerprint(&workspace).expect("files");
        let write = |file: &str, text: &str| std::fs::write(workspace.root.join(file), text).expect("a file");
        let first = print();
        write(PASSED, &first);
        write("Cargo.lock", &LOCK.replace("1.0.1", "1.0.2"));
        let same = print();
        write("Cargo.lock", &LOCK.replace("0.10.0", "0.10.1"));
        let compiler = print();
        write("Cargo.lock", LOCK);
        write("crates/collimate-backend/src/cube.rs", "fn kernel() { }\n");
        let code = print();
        write("crates/collimate-backend/src/cube.rs", "fn kernel() {}\r\n");
        let line_ends = print();
        std::fs::remove_dir_all(&workspace.root).expect("a folder");
        assert_eq!((same, line_ends), (first.clone(), first.clone()));
        assert!(compiler != first && code != first && code != compiler);
    }

    #[test]
    fn the_step_is_left_out_only_for_the_code_that_passed() {
        let workspace = checkout("step");
        let passed = fingerprint(&workspace).expect("files");
        std::fs::write(workspace.root.join(PASSED), format!("{passed}\n")).expect("a file");
        let mut steps = Steps::new();
        step(&workspace, &mut steps);
        std::fs::remove_dir_all(&workspace.root).expect("a folder");
        assert!(steps.summary().contains("NOT RUN: kernels on wgpu (their code is that of"), "{}", steps.summary());
    }
}
