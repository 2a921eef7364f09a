//! `cargo xtask test`, `check` and `bench`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::cli::TestOptions;
use crate::forward::Forwarded;
use crate::program::{self, Profile};
use crate::steps::{Steps, execute};
use crate::workspace::{Workspace, output};
use crate::{backend, harness, scaffold};

/// Where the tests find the reference implementation's numbers, from the root of the checkout.
const GOLDEN: &str = "../shared/parity/golden";
/// The plugin that stands in the checkout as an example, and the objective it registers.
const EXAMPLE: &str = "examples/margin-objective";
const EXAMPLE_OBJECTIVE: &str = "margin_dpo";
/// The objective that is scaffolded to test the scaffold.
const PROBE: &str = "scaffold_probe";

/// Tests what CI tests, or only the tests that the arguments name.
pub(crate) fn test(workspace: &Workspace, options: &TestOptions, profile: Profile) -> Result<ExitCode> {
    let features = backend::features(workspace, &options.backend)?;
    let mut steps = Steps::default();
    let mut tests = workspace.cargo_here("test");
    tests.args(["--profile", if profile == Profile::Dev { "test" } else { "release" }]);
    tests.args((!options.args.iter().any(selects_packages)).then_some("--workspace"));
    if !features.is_empty() {
        tests.arg("--features").arg(features.iter().map(|f| format!("collimate/{f}")).collect::<Vec<_>>().join(","));
    }
    tests.arg("--no-fail-fast").args(&options.args);
    steps.run("golden files", || golden_files(&workspace.root));
    steps.run("tests of the workspace", || execute(&mut tests));
    if options.args.is_empty() {
        plugins(workspace, options, profile, &mut steps);
        if !options.no_lints {
            lints(workspace, &mut steps);
        }
    }
    Ok(steps.finish())
}

/// Formatting, clippy and documentation.
pub(crate) fn check(workspace: &Workspace) -> Result<ExitCode> {
    let mut steps = Steps::default();
    lints(workspace, &mut steps);
    steps.run("documentation", || {
        let mut doc = workspace.cargo_here("doc");
        execute(doc.args(["--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
    });
    Ok(steps.finish())
}

/// Runs the benchmarks.
pub(crate) fn bench(workspace: &Workspace, args: &[OsString]) -> Result<ExitCode> {
    execute(workspace.cargo_here("bench").args(["--package", "collimate-benches"]).args(args))?;
    Ok(ExitCode::SUCCESS)
}

/// Says in one line what would otherwise be many failed tests.
fn golden_files(root: &Path) -> Result<()> {
    let folder = root.join(GOLDEN);
    if !folder.is_dir() {
        bail!("{} is not there; the tests that compare with PyTorch read it and fail without it", folder.display());
    }
    Ok(())
}

fn selects_packages(argument: &OsString) -> bool {
    matches!(argument.to_str(), Some("-p" | "--package" | "--workspace"))
}

fn lints(workspace: &Workspace, steps: &mut Steps) {
    let manifests = [workspace.manifest(), workspace.root.join(EXAMPLE).join("Cargo.toml")];
    steps.run("formatting", || {
        for manifest in manifests.iter().filter(|manifest| manifest.is_file()) {
            execute(workspace.cargo("fmt", manifest).args(["--all", "--check"]))?;
        }
        Ok(())
    });
    steps.run("clippy", || {
        let mut clippy = workspace.cargo_here("clippy");
        execute(clippy.args(["--workspace", "--all-targets", "--", "-D", "warnings"]))
    });
}

/// The way of a plugin's author: scaffold a crate, test it, link it, run the program with it.
fn plugins(workspace: &Workspace, options: &TestOptions, profile: Profile, steps: &mut Steps) {
    let example = workspace.root.join(EXAMPLE);
    let scratch = Scratch::new();
    let probe = scratch.0.join("plugin");
    steps.run("tests of the example plugin", || test_crate(workspace, &example));
    steps.run("tests of a scaffolded plugin", || {
        scaffold::write(workspace, PROBE, &probe)?;
        test_crate(workspace, &probe)
    });
    steps.run("collimate with both plugins", || {
        let forwarded =
            Forwarded { plugins: vec![example, probe], backend: Some(options.backend.clone()), ..Forwarded::default() };
        let program = program::build(workspace, &forwarded, profile)?;
        [EXAMPLE_OBJECTIVE, PROBE].iter().try_for_each(|name| use_objective(&program, name, &scratch.0))
    });
}

fn test_crate(workspace: &Workspace, folder: &Path) -> Result<()> {
    harness::share_lock(workspace, folder)?;
    let profiles = workspace.target.join("plugins/profiles.toml");
    harness::write_changed(&profiles, &workspace.profiles()?)?;
    execute(workspace.cargo("test", &folder.join("Cargo.toml")).arg("--config").arg(&profiles))
}

/// The program lists the objective and computes values and gradients with it.
fn use_objective(program: &Path, name: &str, scratch: &Path) -> Result<()> {
    let shown = output(Command::new(program).args(["objectives", name]))?;
    if !shown.contains(name) {
        bail!("`collimate objectives {name}` does not name it:\n{shown}");
    }
    let row = format!(
        "{{\"objective\": \"{name}\", \"policy_logps\": [[-9.0, -8.0]], \"reference_logps\": [[-9.5, -7.0]], \
         \"rewards\": [[1.0, 0.0]], \"lengths\": [[12, 10]]}}\n"
    );
    let rows = scratch.join(format!("{name}.json"));
    std::fs::write(&rows, row).with_context(|| format!("cannot write {}", rows.display()))?;
    let values = output(Command::new(program).arg("objective-values").arg(&rows))?;
    if !values.contains("\"grad_of_mean\"") {
        bail!("`collimate objective-values` gives no gradient of {name}:\n{values}");
    }
    eprintln!("    {name}: listed and evaluated");
    Ok(())
}

/// A folder for this run, removed at its end.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("collimate-xtask-{}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is the system's temporary folder's to clean.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_golden_files_are_said_with_their_place() {
        let error = golden_files(Path::new("/no-such-folder/checkout")).expect_err("nothing is there");
        assert!(error.to_string().contains("/no-such-folder/checkout/../shared/parity/golden"), "{error}");
    }

    #[test]
    fn named_packages_replace_the_workspace() {
        let selects = |args: &[&str]| args.iter().map(OsString::from).any(|argument| selects_packages(&argument));
        assert!(selects(&["-p", "collimate-data"]));
        assert!(!selects(&["truncation", "--", "--nocapture"]));
    }
}
