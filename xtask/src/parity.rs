//! Tests on backends other than flex: comparisons with PyTorch on libtorch's CPU, and GPU kernels on a Vulkan driver.
//! Comparisons with PyTorch on a software Vulkan driver would take too long.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::failed_tests::execute_tests;
use crate::kernels;
use crate::libtorch::Libtorch;
use crate::profile::Profile;
use crate::python_check;
use crate::steps::Steps;
use crate::test_run::TestRun;
use crate::workspace::{Workspace, in_ci};

/// Packages with tests that depend on the backend.
const PACKAGES: [&str; 3] = ["collimate-backend", "collimate-model", "collimate-tests"];
/// Their test executables that do.
const EXECUTABLES: [&str; 5] = ["--lib", "--test", "public", "--test", "it"];
/// Parts of these tests' names: comparisons with PyTorch, the seam between backends, and each backend's own operations.
const NAMES: [&str; 4] = ["golden", "backend", "cube", "libtorch"];

/// Arguments of `cargo test` for a backend other than flex; everything else is the same code as on flex.
pub(crate) fn suite() -> Vec<OsString> {
    let packages = PACKAGES.iter().flat_map(|package| ["-p", package]);
    packages.chain(EXECUTABLES).chain(["--"]).chain(NAMES).map(OsString::from).collect()
}

/// The name of a backend's tests among the steps.
pub(crate) fn step_name(backend: &str) -> String {
    format!("parity on {backend}")
}

/// The other backends. Only in CI, since each rebuilds everything that depends on burn.
pub(crate) fn steps(
    workspace: &Workspace,
    named: Option<&Path>,
    profile: Profile,
    skipped: &[&str],
    steps: &mut Steps,
) {
    let libtorch = step_name("libtorch");
    if !in_ci() {
        let reason = "runs under CI; here `cargo xtask test --backend libtorch` does";
        return steps.leave_out(&libtorch, reason.to_owned());
    }
    match set_libtorch_up(workspace, named) {
        Ok(()) => steps.run(&libtorch, || {
            let run = TestRun { backend: "libtorch", fusion: false, args: &suite(), profile, skipped };
            execute_tests(&mut run.command(workspace)?)
        }),
        Err(reason) => steps.leave_out(&libtorch, reason),
    }
    kernels::step(workspace, steps);
}

/// Uses the installed libtorch, or else that of the round trips' Python environment, which has the bindings' version.
fn set_libtorch_up(workspace: &Workspace, named: Option<&Path>) -> Result<(), String> {
    if Libtorch::find(workspace).is_ok() {
        return Ok(());
    }
    let python = named.map(PathBuf::from).or_else(|| python_check::made_python(workspace));
    let python = python.ok_or("no Python environment with PyTorch could be made")?;
    Libtorch::take(workspace, &python).map(|_| ()).map_err(|error| format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suite_names_packages_and_tests() {
        let words: Vec<String> = suite().iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let packages = "-p collimate-backend -p collimate-model -p collimate-tests";
        assert_eq!(
            words.join(" "),
            format!("{packages} --lib --test public --test it -- golden backend cube libtorch")
        );
    }

    #[test]
    fn the_round_trips_install_the_libtorch_of_the_bindings() {
        let workspace = Workspace::locate().expect("a checkout");
        let packages = workspace.read("tests/python/requirements.txt").expect("a file of packages");
        assert!(packages.lines().any(|line| line == crate::libtorch::PACKAGE), "{packages}");
    }
}
