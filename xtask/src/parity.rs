//! Backends that are not flex in the tests of the whole: what is compared with PyTorch runs on libtorch's CPU, kernels for
//! GPUs run on a Vulkan driver, and the backends that have them are type-checked. The comparisons with PyTorch on a Vulkan
//! driver in software take too long for it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::beside::Beside;
use crate::libtorch::Libtorch;
use crate::program::Profile;
use crate::steps::{Steps, execute};
use crate::verify::test_arguments;
use crate::workspace::{Workspace, in_ci};
use crate::{backend, python_check};

/// Names the backend that tests compute on.
const TEST_BACKEND: &str = "COLLIMATE_TEST_BACKEND";

/// Packages with such tests.
const PACKAGES: [&str; 4] = ["collimate-backend", "collimate-model", "collimate-train", "collimate-tests"];
/// What the names of these tests hold: the modules of PyTorch's numbers, the seam, and the backends' own operations.
const NAMES: [&str; 4] = ["golden", "backend", "cube", "libtorch"];
/// The kernels for GPUs, on whatever has a Vulkan driver.
const KERNELS: &str = "kernels on wgpu";
/// Where Vulkan's loader looks for drivers on Linux.
const GRAPHICS_DRIVERS: [&str; 3] = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
/// Backends for GPUs, features of the program.
const CHECKED: &str = "cuda,wgpu";

/// Arguments of `cargo test` for a backend that is not flex; all else is the same code on flex.
pub(crate) fn suite() -> Vec<OsString> {
    let packages = PACKAGES.iter().flat_map(|package| ["-p", package]);
    packages.chain(["--"]).chain(NAMES).map(OsString::from).collect()
}

/// The command that runs tests on a backend.
///
/// # Errors
/// What the backend needs to be built is not there; says how to get it.
pub(crate) fn command(
    workspace: &Workspace,
    (backend, fusion): (&str, bool),
    args: &[OsString],
    profile: Profile,
    missing: &[Beside],
) -> Result<Command> {
    let features = backend::features_with(workspace, backend, fusion)?;
    let mut tests = workspace.cargo_here("test");
    tests.env(TEST_BACKEND, backend);
    if backend::is_cubecl(backend) {
        for_cubecl(&mut tests);
    }
    backend::prepare(workspace, &features, &mut tests)?;
    tests.args(test_arguments(args, &features, profile, missing));
    Ok(tests)
}

/// What tests of CubeCL's kernels want of their process.
fn for_cubecl(tests: &mut Command) {
    // Kernels are tried that a device cannot run, and an error of each would look its backtrace up.
    tests.env("RUST_BACKTRACE", "0");
    // While one thread tries kernels for a shape, another gets the first that runs, and so other bits than later. A run
    // computes on one thread.
    tests.env("RUST_TEST_THREADS", "1");
}

/// The name of a backend's tests among the steps.
pub(crate) fn step_name(backend: &str) -> String {
    format!("parity on {backend}")
}

/// The other backends, under CI alone: each is another build of what stands on burn.
pub(crate) fn steps(
    workspace: &Workspace,
    named: Option<&Path>,
    profile: Profile,
    missing: &[Beside],
    steps: &mut Steps,
) {
    let libtorch = step_name("libtorch");
    if !in_ci() {
        let reason = "runs under CI; here `cargo xtask test --backend libtorch` does";
        return steps.leave_out(&libtorch, reason.to_owned());
    }
    match set_libtorch_up(workspace, named) {
        Ok(()) => steps.run(&libtorch, || {
            let mut tests = command(workspace, ("libtorch", false), &suite(), profile, missing)?;
            execute(&mut tests)
        }),
        Err(reason) => steps.leave_out(&libtorch, reason),
    }
    match GRAPHICS_DRIVERS.iter().any(|folder| holds_a_driver(Path::new(folder))) {
        true => steps.run(KERNELS, || {
            let mut tests = workspace.cargo_here("test");
            for_cubecl(&mut tests);
            execute(tests.args(["-p", "collimate-backend", "--features", "wgpu", "--lib", "cube"]))
        }),
        false => {
            steps.leave_out(KERNELS, "no Vulkan driver; on Debian mesa-vulkan-drivers has one in software".to_owned())
        }
    }
    steps.run("cuda and wgpu, type-checked", || {
        let mut check = workspace.cargo_here("check");
        execute(check.args(["-p", "collimate", "--features", CHECKED]))
    });
}

/// Whether a folder has the description of a driver.
fn holds_a_driver(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| entry.path().extension().is_some_and(|extension| extension == "json"))
}

/// Takes the environment of the round trips, whose PyTorch is the one that the bindings want, unless there is a libtorch.
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
    fn the_suite_is_of_packages_and_names() {
        let words: Vec<String> = suite().iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let packages = "-p collimate-backend -p collimate-model -p collimate-train -p collimate-tests";
        assert_eq!(words.join(" "), format!("{packages} -- golden backend cube libtorch"));
    }

    #[test]
    fn what_is_type_checked_is_a_backend() {
        let workspace = Workspace::locate().expect("a checkout");
        for backend in CHECKED.split(',') {
            assert_eq!(backend::features(&workspace, backend).expect("a backend"), [backend]);
        }
    }

    #[test]
    fn the_round_trips_have_the_libtorch_that_the_bindings_want() {
        let workspace = Workspace::locate().expect("a checkout");
        let packages = workspace.read("tests/python/requirements.txt").expect("a file of packages");
        assert!(packages.lines().any(|line| line == crate::libtorch::PACKAGE), "{packages}");
    }
}
