//! `cargo xtask python-check`: round trips of models and adapters through transformers and PEFT, and training beside TRL's
//! trainer.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;

use crate::forward::Forwarded;
use crate::profile::Profile;
use crate::program;
use crate::python::Environment;
use crate::steps::{Steps, execute};
use crate::test_options::TestOptions;
use crate::workspace::{Workspace, in_ci};

/// Options of `cargo xtask python-check`.
#[derive(Debug, Default, Args)]
pub(crate) struct PythonCheckOptions {
    /// Python with what tests/python/requirements.txt names [default: a virtual environment in the target folder].
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) python: Option<PathBuf>,
    /// Models to check, with commas between: folders of tests/golden [default: all].
    #[arg(long, value_name = "NAMES")]
    pub(crate) only: Option<String>,
    /// Folder of other models by these names; one that is not in it is the golden one.
    #[arg(long, value_name = "DIR")]
    pub(crate) models: Option<PathBuf>,
}

/// Name of the step of `cargo xtask test`.
const STEP: &str = "round trips with transformers and PEFT, and training beside TRL";
const SCRIPT: &str = "tests/python/round_trips.py";
/// Published recipes, trained by both.
const RECIPES: &str = "tests/python/trl_recipes.py";

/// Builds the program and runs the checks.
pub(crate) fn python_check(workspace: &Workspace, options: &PythonCheckOptions, profile: Profile) -> Result<ExitCode> {
    check(workspace, options, &Forwarded::default(), profile)?;
    Ok(ExitCode::SUCCESS)
}

/// The checks as a step of `cargo xtask test`. Tests must not require Python, so the step runs only if its environment
/// exists or, in CI, once it has been created; otherwise the summary says why it was skipped.
pub(crate) fn step(workspace: &Workspace, options: &TestOptions, profile: Profile, steps: &mut Steps) {
    let made = environment(workspace).is_made(workspace);
    if !(in_ci() || made || options.python.is_some()) {
        let reason = "no Python environment for it here; `cargo xtask python-check` makes one and runs it";
        steps.leave_out(STEP, reason.to_owned());
        return;
    }
    if let Err(error) = environment(workspace).python(workspace, options.python.as_deref()) {
        // An unreachable index or a full disk is not the code's fault.
        return steps.leave_out(STEP, format!("no Python environment can be made: {error:#}"));
    }
    let own = PythonCheckOptions { python: options.python.clone(), ..PythonCheckOptions::default() };
    let forwarded = Forwarded { backend: Some(options.backend.clone()), ..Forwarded::default() };
    steps.run(STEP, || check(workspace, &own, &forwarded, profile));
}

/// The environment's Python, if the environment exists.
pub(crate) fn made_python(workspace: &Workspace) -> Option<PathBuf> {
    let environment = environment(workspace);
    environment.is_made(workspace).then(|| environment.python(workspace, None).ok()).flatten()
}

fn check(workspace: &Workspace, options: &PythonCheckOptions, built: &Forwarded, profile: Profile) -> Result<()> {
    let python = environment(workspace).python(workspace, options.python.as_deref())?;
    let program = program::build(workspace, built, profile)?;
    let folder = scratch(workspace).join("work");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    execute(&mut script(workspace, options, &python, &program, &folder))?;
    match options.only.is_some() || options.models.is_some() {
        // The recipes are trained on one model.
        true => Ok(()),
        false => execute(&mut recipes(workspace, &python, &program, &folder)),
    }
}

/// The script that trains recipes with TRL and here.
fn recipes(workspace: &Workspace, python: &Path, program: &Path, folder: &Path) -> Command {
    start(workspace, RECIPES, python, program, folder)
}

/// A script with the program and a folder to work in.
fn start(workspace: &Workspace, script: &str, python: &Path, program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(python);
    command.arg(workspace.root.join(script)).arg(program).arg(folder);
    // Keeps compiled modules out of the checkout.
    command.env("PYTHONPYCACHEPREFIX", scratch(workspace).join("pycache"));
    command
}

/// The script with its arguments.
fn script(
    workspace: &Workspace,
    options: &PythonCheckOptions,
    python: &Path,
    program: &Path,
    folder: &Path,
) -> Command {
    let mut command = start(workspace, SCRIPT, python, program, folder);
    if let Some(models) = &options.models {
        command.arg("--models").arg(models);
    }
    if let Some(only) = &options.only {
        command.args(["--only", only]);
    }
    command
}

fn environment(workspace: &Workspace) -> Environment {
    Environment { folder: scratch(workspace).join("venv"), requirements: "tests/python/requirements.txt" }
}

fn scratch(workspace: &Workspace) -> PathBuf {
    workspace.target.join("python-check")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::workspace::words;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        options: PythonCheckOptions,
    }

    fn line(args: &[&str]) -> String {
        let workspace = Workspace { root: "/no-such-folder/checkout".into(), target: "/target".into() };
        let options = Cli::try_parse_from([&["python-check"], args].concat()).expect("valid options").options;
        let folder = scratch(&workspace).join("work");
        words(&script(&workspace, &options, Path::new("/venv/python"), Path::new("/target/debug/collimate"), &folder))
    }

    #[test]
    fn options_reach_the_script() {
        let start = "python /no-such-folder/checkout/tests/python/round_trips.py /target/debug/collimate \
                     /target/python-check/work";
        assert_eq!(line(&[]), start);
        let all = line(&["--models", "/models", "--only", "llama,phi3"]);
        assert_eq!(all, format!("{start} --models /models --only llama,phi3"));
    }

    #[test]
    fn the_script_and_its_packages_are_in_the_checkout() {
        let workspace = Workspace::locate().expect("a checkout");
        assert!(workspace.read(SCRIPT).is_ok() && workspace.read(RECIPES).is_ok());
        let packages = workspace.read(environment(&workspace).requirements).expect("a file of packages");
        let lines: Vec<&str> = packages.lines().collect();
        assert!(lines.is_sorted() && lines.iter().all(|line| line.contains("==")), "{packages}");
    }
}
