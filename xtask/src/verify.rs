//! `cargo xtask test` and `check`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::beside;
use crate::failed_tests::execute_tests;
use crate::forward::Forwarded;
use crate::profile::Profile;
use crate::steps::{Steps, execute};
use crate::test_options::TestOptions;
use crate::test_run::TestRun;
use crate::workspace::{Workspace, in_ci, output};
use crate::{backend, harness, parity, program, python_check, ranks, scaffold, source};

/// The example plugin in the checkout, and the objective it registers.
const EXAMPLE: &str = "examples/margin-objective";
const EXAMPLE_OBJECTIVE: &str = "margin_dpo";
/// The programs in `examples` that use the libraries.
const EXAMPLES: [&str; 2] = ["score_file", "training_loop"];
/// Features for GPUs, which CI type-checks.
const GPU_BACKENDS: &str = "collimate/cuda,collimate/wgpu";
/// The objective that is scaffolded to test the scaffold.
const PROBE: &str = "scaffold_probe";

/// Tests what CI tests, or only the tests that the arguments name.
///
/// Without the published data beside the checkout, its tests are skipped, and the summary says so.
pub(crate) fn test(workspace: &Workspace, options: &TestOptions, profile: Profile) -> Result<ExitCode> {
    let data = beside::data(&workspace.root);
    let skipped = beside::skipped(&data);
    let mut steps = Steps::new();
    if !skipped.is_empty() {
        steps.leave_out(beside::TESTS, format!("{} is not there", data.display()));
    }
    let is_flex = backend::features_with(workspace, &options.backend, options.fusion)?.is_empty();
    let whole = options.args.is_empty() && is_flex;
    let environment = whole.then(|| python_check::prepare(workspace, options));
    let suite = parity::suite();
    let chosen = if is_flex || !options.args.is_empty() { &options.args } else { &suite };
    let run = TestRun { backend: &options.backend, fusion: options.fusion, args: chosen, profile, skipped };
    let mut tests = run.command(workspace)?;
    let name = if is_flex { "tests of the workspace".to_owned() } else { parity::step_name(&options.backend) };
    steps.run(&name, || execute_tests(&mut tests));
    if let Some(environment) = environment {
        python_check::step(workspace, environment, options, profile, &mut steps);
        examples(workspace, &mut steps);
        plugins(workspace, options, profile, &mut steps);
        ranks::step(workspace, profile, &mut steps);
        parity::steps(workspace, options.python.as_deref(), profile, skipped, &mut steps);
        if !options.no_lints {
            lints(workspace, &mut steps);
        }
    }
    Ok(steps.finish())
}

/// Formatting, clippy, spelling, licenses, advisories and documentation.
pub(crate) fn check(workspace: &Workspace) -> Result<ExitCode> {
    let mut steps = Steps::new();
    lints(workspace, &mut steps);
    steps.run("documentation", || {
        let mut doc = workspace.cargo_here("doc");
        execute(doc.args(["--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
    });
    Ok(steps.finish())
}

fn lints(workspace: &Workspace, steps: &mut Steps) {
    let manifests = [workspace.manifest(), workspace.root.join(EXAMPLE).join("Cargo.toml")];
    steps.run("formatting", || {
        for manifest in manifests.iter().filter(|manifest| manifest.is_file()) {
            execute(workspace.cargo("fmt", manifest).args(["--all", "--check"]))?;
        }
        Ok(())
    });
    steps.run(if in_ci() { "clippy, with the code of cuda and wgpu" } else { "clippy" }, || {
        let mut clippy = workspace.cargo_here("clippy");
        clippy.args(["--workspace", "--all-targets"]);
        if in_ci() {
            // Elsewhere, building the dependencies of these backends would take longer than the check.
            clippy.args(["--features", GPU_BACKENDS]);
        }
        execute(clippy.args(["--", "-D", "warnings"]))
    });
    source::steps(workspace, steps);
}

/// Runs the programs in `examples`, which the tests of the workspace have built.
fn examples(workspace: &Workspace, steps: &mut Steps) {
    steps.run("examples", || {
        EXAMPLES.iter().try_for_each(|name| {
            let mut run = workspace.cargo_here("run");
            execute(run.args(["--quiet", "--package", "collimate", "--example", name]))
        })
    });
}

/// Does what a plugin's author does: scaffolds a crate, tests it, links it, and runs the program with it.
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
    harness::write_changed(&profiles, &workspace.profiles()?.to_string())?;
    execute_tests(workspace.cargo("test", &folder.join("Cargo.toml")).arg("--config").arg(&profiles))
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

/// A folder for this run, removed when dropped.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("collimate-xtask-{}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // If this fails, the system cleans its temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
